"""Compression of a fine-tuned encoder by progressive module replacing.

Source: Xu et al. 2020 (arXiv 2002.02925) and its released code.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import TrainerCallback, set_seed

from bertkernels.errors import InputError
from bertkernels.training.finetune import (
    FinetuneResult,
    TaskData,
    check_finetuning,
    choose_best,
    describe_data,
    encode_task,
    read_task,
    summary_lines,
    train_and_report,
    trainer_arguments,
)
from bertkernels.training.finetuned_folder import finetuned_folder
from bertkernels.training.finetuning_model import check_length
from bertkernels.training.output_folder import check_output_folder, clear_output_folder
from bertkernels.training.results_file import write_json
from bertkernels.training.theseus.arguments import TheseusArguments, check_theseus, replacement_rate
from bertkernels.training.theseus.models import Pair, build_pair, load_predecessor
from bertkernels.training.theseus.progress import TheseusProgress
from bertkernels.training.theseus.report import write_report
from bertkernels.training.theseus.trainer import TheseusSettings, TheseusTrainer
from bertkernels.training.training_arguments import FinetuneRunArguments
from bertkernels.training.weights_digest import weights_digest

SETTINGS = "theseus.json"


def theseus(
    arguments: TheseusArguments, run: FinetuneRunArguments, callbacks: Sequence[TrainerCallback] = ()
) -> FinetuneResult:
    """Trains a successor in its predecessor's place, evaluates it alone and saves it.

    Into `run.output_dir` what `finetune` writes, of the successor: every checkpoint is a successor alone too. Beside it
    `compression.json` and `.md` (size, speed, what each module's replacement costs), `huggingface`, the successor for
    stock tools where those have its plan, and `theseus.json`, by which a resumed run knows that it is the same.

    Raises InputError for bad flags and files, a predecessor that was not fine-tuned on the task, modules that don't fit
    it, and a resume with other settings, before any training.
    """
    check_theseus(arguments, run)
    check_finetuning(arguments)
    rate = replacement_rate(arguments)
    checkpoint = check_output_folder(run)
    task = read_task(arguments, run)
    source = finetuned_folder(arguments.model_name_or_path, arguments.task_name)
    if Path(source).resolve() == Path(run.output_dir).resolve():
        raise InputError(f"--output_dir {run.output_dir} is the predecessor's own folder")
    found = load_predecessor(source, task, arguments)
    set_seed(run.seed)
    pair = build_pair(found, arguments)
    check_length(pair.model, arguments.max_seq_length or task.max_length)
    settings = TheseusSettings(
        rate,
        arguments.clip,
        arguments.successor_learning_rate,
        arguments.distillation_weight,
        arguments.distillation_temperature,
    )
    record = _record(pair, settings, run)
    if checkpoint is not None:
        _check_record(Path(checkpoint).parent, record)
    data = encode_task(task, arguments, run, source)
    callbacks = [*callbacks, *choose_best(arguments, run, data)]
    if checkpoint is None:
        clear_output_folder(run)
    if run.ddp_find_unused_parameters is None:
        run.ddp_find_unused_parameters = False  # every trained weight has a gradient in every step
    trainer = TheseusTrainer(pair=pair, settings=settings, callbacks=callbacks, **_arguments(pair, run, data))
    trainer.add_callback(TheseusProgress(trainer))
    if trainer.is_world_process_zero():
        Path(run.output_dir).mkdir(parents=True, exist_ok=True)
        write_json(Path(run.output_dir, SETTINGS), record)
        print(_summary(pair, data, settings, run), flush=True)
    result = train_and_report(trainer, data, checkpoint)
    text = write_report(trainer, data, arguments, result)
    if trainer.is_world_process_zero():
        print(text, flush=True)
    trainer.accelerator.wait_for_everyone()
    return result


def _arguments(pair: Pair, run: FinetuneRunArguments, data: TaskData) -> dict[str, object]:
    return {name: value for name, value in trainer_arguments(pair.model, run, data).items() if name != "model"}


def _record(pair: Pair, settings: TheseusSettings, run: FinetuneRunArguments) -> dict[str, object]:
    """What a resumed run must have in common with the one it goes on with, beside the flags of fine-tuning."""
    values = {
        "modules": str(pair.module_map),
        "plan": pair.model.config.plan,
        "predecessor": weights_digest(pair.predecessor),
        "seed": run.seed,
        "trained": sorted(pair.trained),
        "schedule": type(settings.rate).__name__,
        **asdict(settings),
    }
    return json.loads(json.dumps(values))


def _check_record(folder: Path, record: dict[str, object]) -> None:
    file = folder / SETTINGS
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read, so that the run can't be resumed ({error})") from error
    changed = [name for name in sorted({*before, *record}) if before.get(name) != record.get(name)]
    if changed:
        said = "; ".join(_change(name, before.get(name), record.get(name)) for name in changed)
        raise InputError(f"{folder} was begun otherwise and can't be resumed: {said}")


def _change(name: str, before: object, now: object) -> str:
    if name in ("predecessor", "trained"):
        return "another predecessor" if name == "predecessor" else "other weights are trained"
    return f"{name} {before} before, {now} now"


def _summary(pair: Pair, data: TaskData, settings: TheseusSettings, run: FinetuneRunArguments) -> str:
    model = pair.model
    trained = sum(p.numel() for n, p in model.named_parameters() if n in pair.trained)
    everything = sum(p.numel() for p in {*model.parameters(), *pair.predecessor.parameters()})
    fresh = pair.successor.fresh
    begins = f"{pair.successor.copied} sub-layers copied" + (f", fresh: {', '.join(fresh)}" if fresh else "")
    rows = {
        **describe_data(data),
        "before": f"{pair.predecessor.config.plan}, {pair.predecessor.num_parameters():,} parameters",
        "after": f"{model.config.plan}, {model.num_parameters():,} parameters, modules {pair.module_map} ({begins})",
        "rate": settings.rate.describe(),
        "trained": f"{trained:,} of {everything:,} parameters, whose gradients and Adam's moments take "
        f"{12 * trained / 2**20:.1f} MB (of all: {12 * everything / 2**20:.1f})",
        "output": run.output_dir,
    }
    return summary_lines(rows)
