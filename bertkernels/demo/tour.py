"""The demo from beginning to end."""

import dataclasses
import logging
import os
import warnings
from datetime import datetime
from pathlib import Path

import torch
import transformers

from bertkernels.cli import info
from bertkernels.data.builtin_task import builtin_task
from bertkernels.data.builtin_text import builtin_fingerprint, builtin_text
from bertkernels.data.tokenizer import train_tokenizer
from bertkernels.demo.clock import Clock, minutes_text
from bertkernels.demo.commands import next_commands
from bertkernels.demo.drop_in import measure_drop_in
from bertkernels.demo.finetuning import run_finetuning
from bertkernels.demo.output_folder import REPORT, start_demo_folder, write_results
from bertkernels.demo.page import page
from bertkernels.demo.pretraining import run_pretraining, step_seconds, steps_in, write_encoder
from bertkernels.demo.settings import Settings

_STEPS = 6
_PAGE_SECONDS = 8.0  # what drawing the report takes, plots included
_MOST_KEPT = 0.4  # of the time left before pre-training, for what follows it
_START_SECONDS = 4.0  # what a fine-tuning run takes before its first step and after its last


def tour(settings: Settings, started: float) -> Path:
    """Runs all steps and writes models, `results.json` and the report, whose path it returns.

    Args:
        started: time.monotonic() when the demo's time began.

    Raises:
        InputError: the output folder holds something that the demo did not make.
    """
    _silence_libraries()
    folder = settings.output_dir
    start_demo_folder(folder)
    clock = Clock(settings.minutes, started, _STEPS)
    results: dict = {"finished": False, "date": datetime.now().astimezone().isoformat(timespec="seconds")}
    results |= {"minutes": settings.minutes, "seed": settings.seed}

    with clock.step("info", "This machine"):
        results["environment"] = info.collect()
        _print_environment(results["environment"])

    with clock.step("text", "Built-in text: documentation of the installed Python libraries, collected once"):
        results["text"], tokenizer, sentences = _text(settings)

    heading = "Hugging Face's ConvBERT-small, random weights, before and after bertkernels.patch"
    with clock.step("drop_in", heading):
        results["drop_in"] = measure_drop_in(
            tokenizer, sentences, settings.seed, settings.measure_seconds, settings.compile_seconds
        )

    with clock.step("pretraining", f"Pre-training a small ConvBERT, {settings.plan}, on the built-in text"):
        write_encoder(settings)
        a_step = step_seconds(settings)
        later = min(_PAGE_SECONDS + _finetuning_seconds(settings, a_step), _MOST_KEPT * clock.left())
        steps = steps_in(clock.left() - later, a_step, settings)
        print(f"  a step takes {a_step * 1000:.0f} ms: {steps} steps in {minutes_text(steps * a_step)}", flush=True)
        results["pretraining"] = run_pretraining(settings, steps, lambda: clock.left() - later)
        results["pretraining"]["tried_step_seconds"] = a_step

    heading = f"Fine-tuning on {settings.labelled_examples} labelled paragraphs: which library does it document?"
    with clock.step("finetuning", heading):
        results["finetuning"] = run_finetuning(settings, Path(results["pretraining"]["encoder"]))

    with clock.step("report", "Report"):
        commands = next_commands(folder, Path(results["pretraining"]["encoder"]), settings.max_seq_length)
        results["next_commands"] = [dataclasses.asdict(command) for command in commands]
        results["seconds"] = {**clock.seconds, "all": clock.elapsed()}
        (folder / REPORT).write_text(page(results), encoding="utf-8")
    results["seconds"] = {**clock.seconds, "all": clock.elapsed()}
    write_results(folder, results | {"finished": True})
    print(f"\nDone in {minutes_text(clock.elapsed())} minutes. The report, for a browser:", flush=True)
    return folder / REPORT


def _silence_libraries() -> None:
    """The demo says what it does itself; libraries' notices would bury it."""
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _print_environment(environment: dict) -> None:
    gpus = ", ".join(gpu["name"] for gpu in environment["gpus"]) or "no GPU"
    packages = environment["packages"]
    print(
        f"  {environment['cpu']['cores']} CPU cores, {gpus}; Python {environment['python']}, torch {packages['torch']}"
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = ", ".join(f"{op} on {entry['runs_on']}" for op, entry in environment["ops"][device].items())
    print(f"  ops: {chosen}")
    for what, command in environment["missing"].items():
        print(f"  not there: {what}; {command}")


def _text(settings: Settings) -> tuple[dict, transformers.PreTrainedTokenizerBase, list[str]]:
    """Facts about the text, a tokenizer trained on it (which pre-training then finds), and texts of real lengths."""
    sources = builtin_text()
    paragraphs = [" ".join(paragraph) for source in sources for paragraph in source.paragraphs]
    facts = {
        "files": len(sources),
        "paragraphs": len(paragraphs),
        "words": sum(paragraph.count(" ") + 1 for paragraph in paragraphs),
        "libraries": sorted({source.library for source in sources}),
        "vocab_size": settings.vocab_size,
    }
    print(f"  {facts['words']:,} words in {facts['paragraphs']:,} paragraphs of {facts['files']:,} files", flush=True)
    sentences = (sentence for source in sources for paragraph in source.paragraphs for sentence in paragraph)
    tokenizer = train_tokenizer(sentences, settings.vocab_size, builtin_fingerprint())
    _, evaluation = builtin_task()
    facts["evaluation_paragraphs"] = len(evaluation)
    return facts, tokenizer, [text for text, _ in evaluation]


def _finetuning_seconds(settings: Settings, a_step: float) -> float:
    """Estimate for both fine-tuning runs, from the time of a pre-training step and the tokens that each reads."""
    a_token = a_step / (settings.pretrain_batch * settings.max_seq_length)
    mean_length, evaluated, backward_share = 40, 1000, 3
    examples = settings.labelled_examples * settings.finetune_epochs + evaluated / backward_share
    return 2 * (examples * mean_length * a_token + _START_SECONDS)
