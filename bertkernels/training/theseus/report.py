"""What a compression came to, as files: `compression.json` and `compression.md`, and the model for stock tools."""

from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel

from bertkernels.errors import InputError
from bertkernels.models.convert.save import save_model
from bertkernels.models.convert.to_huggingface import their_model
from bertkernels.training.finetune import FinetuneResult, TaskData
from bertkernels.training.results_file import write_json
from bertkernels.training.theseus.arguments import TheseusArguments
from bertkernels.training.theseus.figures import Measure, compare_models
from bertkernels.training.theseus.module_table import module_scores
from bertkernels.training.theseus.trainer import TheseusTrainer

REPORT, REPORT_TEXT, HUGGINGFACE = "compression.json", "compression.md", "huggingface"


def write_report(
    trainer: TheseusTrainer,
    data: TaskData,
    arguments: TheseusArguments,
    result: FinetuneResult,
    measure: Measure | None,
) -> str:
    """Measures, writes and returns the text. Every process must call it."""
    scores = []
    if arguments.module_table and data.evaluation and not (arguments.train_head or arguments.train_embeddings):
        scores = [asdict(score) for score in module_scores(trainer, data)]
    if not trainer.is_world_process_zero():
        return ""
    folder = result.output_dir
    content = compare_models(trainer, data, measure, arguments.measure_seconds)
    content |= {
        "modules": str(trainer.pair.module_map),
        "metric": data.task.metric,
        "scores": scores,
        "state_mb": trainer.memory_mb,
        "huggingface": _write_theirs(trainer, folder),
    }
    write_json(folder / REPORT, content)
    text = _text(content, result)
    (folder / REPORT_TEXT).write_text(text, encoding="utf-8")
    return text


def _write_theirs(trainer: TheseusTrainer, folder: Path) -> str:
    """The successor for Hugging Face's own classes, if they have its plan; returns what it is, or why it is not."""
    try:
        theirs = _their_model(trainer.pair.model)
    except InputError as error:
        return f"not written: {error}"
    save_model(theirs, folder / HUGGINGFACE, tokenizer_source=folder, overwrite=True)
    return type(theirs).__name__


def _their_model(model: PreTrainedModel) -> PreTrainedModel:
    """BERT, of those that could hold the model; heads that read no pooler tell it from ELECTRA in nothing but names."""
    try:
        return their_model(model, "bert")
    except InputError:
        return their_model(model)


def _text(content: dict, result: FinetuneResult) -> str:
    rows = []
    for name in ("predecessor", "successor"):
        one = content[name]
        time = "–" if one["milliseconds"] is None else f"{one['milliseconds']:.1f}"
        rows.append(
            f"| {name} | `{one['plan']}` | {one['parameters']:,} | {one['block_parameters']:,} | "
            f"{one['flops'] / 1e9:.2f} | {time} |"
        )
    lines = [
        "# Compression",
        "",
        "| | plan | parameters | of its blocks | GFLOPs | ms a batch |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]
    if "speedup" in content:
        lines += [f"The successor was {content['speedup']:.2f}× as fast ({content['measured_on']}).", ""]
    if result.main_score is not None:
        lines += [f"Successor: {result.main_metric} {result.main_score:.4f}.", ""]
    if content["scores"]:
        base = content["scores"][0]["score"]
        lines += [f"| replaced | blocks | {content['metric']} | change |", "| --- | --- | ---: | ---: |"]
        lines += [
            f"| {row['replaced']} | {row['blocks']} | {row['score']:.4f} | {row['score'] - base:+.4f} |"
            for row in content["scores"]
        ]
        lines.append("")
    lines += [f"For stock Hugging Face (`{HUGGINGFACE}/`): {content['huggingface']}.", ""]
    return "\n".join(lines)
