"""Real tokens a second of fine-tuning ConvBERT-small on a GLUE task: bertkernels unpadded, Hugging Face's model padded.

python benchmarks/unpadded_training.py --glue_dir GLUE --vocab_file vocab.txt [--task_name SST-2] [--tokens_per_batch N]

Both models start from the same weights and are trained by the same Trainer on the same batches, in float32, a few steps
of one and then a few of the other in one process; loading of data, optimizer and logging count. With --tokens_per_batch
bertkernels takes batches of so many real tokens instead. Printed are medians over the rounds.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    ConvBertConfig,
    ConvBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from bertkernels.data.tasks import glue_folder_task
from bertkernels.data.tokenizer import read_vocabulary, tokenizer_from_vocabulary
from bertkernels.models.convert.from_huggingface import convert_huggingface
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.tasks.task import Split
from bertkernels.training.tasks.text_classification import TextClassification
from bertkernels.training.training_arguments import FinetuneRunArguments

# ConvBERT-small as published (Jiang et al., 2020).
_SMALL = {"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}


def models(task: TextClassification, vocab_size: int, sizes: Mapping[str, int]) -> dict[str, PreTrainedModel]:
    """Hugging Face's model as it is, and ours with its weights, which does not see padding."""
    set_seed(0)
    config = ConvBertConfig(**sizes, vocab_size=vocab_size)
    task.configure(config)
    theirs = ConvBertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = convert_huggingface(folder, "classifier", padding="exact").model
    return {"bertkernels": ours, "Hugging Face": theirs}


def train(
    model: PreTrainedModel,
    task: TextClassification,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    settings: Mapping[str, object],
) -> dict[str, float]:
    """Trains for some steps; what the log says of them."""
    with tempfile.TemporaryDirectory() as folder:
        run = FinetuneRunArguments(
            output_dir=folder,
            logging_steps=settings["max_steps"],
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        trainer = FinetuningTrainer(
            model=model,
            args=run,
            task=task,
            train_dataset=split.features,
            evaluation={},
            data_collator=task.collator(tokenizer, task.max_length, few_widths=False),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return next(entry for entry in trainer.state.log_history if "tokens_per_second" in entry)


def main(argv: list[str] | None = None, sizes: Mapping[str, int] = _SMALL) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--glue_dir", type=Path, required=True)
    parser.add_argument("--vocab_file", type=Path, required=True)
    parser.add_argument("--task_name", default="SST-2")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--tokens_per_batch", type=int)
    parser.add_argument("--steps", type=int, default=4, help="of one model before it is the other's turn")
    parser.add_argument("--rounds", type=int, default=5, help="measured, after one that is not")
    arguments = parser.parse_args(argv)

    task = TextClassification(glue_folder_task(arguments.glue_dir, arguments.task_name))
    tokenizer = tokenizer_from_vocabulary(read_vocabulary(arguments.vocab_file))
    split = Split(task.train, task.encode(task.train, tokenizer, task.max_length, training=True))
    pair = models(task, len(tokenizer), sizes)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in pair}
    for turn in range(arguments.rounds + 1):
        for name, model in pair.items():
            settings = {
                "seed": turn,
                "max_steps": arguments.steps,
                "per_device_train_batch_size": arguments.batch_size,
                "tokens_per_batch": arguments.tokens_per_batch if name == "bertkernels" else None,
            }
            entry = train(model, task, split, tokenizer, settings)
            if turn:
                found[name].append(entry)

    print(
        f"{task.name}, {arguments.rounds} rounds of {arguments.steps} steps, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    speeds = {}
    for name, entries in found.items():
        speeds[name] = statistics.median(entry["tokens_per_second"] for entry in entries)
        padding = statistics.median(entry["padding_share"] for entry in entries)
        loss = entries[-1]["loss"]
        print(f"{name:>12}: {speeds[name]:,.0f} real tokens/s (padding in its batches {padding:.0%}, loss {loss:.3f})")
    ratios = [
        ours["tokens_per_second"] / theirs["tokens_per_second"] for ours, theirs in zip(*found.values(), strict=True)
    ]
    print(f"{'ratio':>12}: {statistics.median(ratios):.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
