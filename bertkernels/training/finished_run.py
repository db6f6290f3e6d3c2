"""Runs of a series: what is finished is not done again, what was cut short goes on."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.finetune import FinetuneResult, finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.flag_defaults import flag_defaults, plain
from bertkernels.training.output_folder import LAST
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import FinetuneRunArguments

_RECORD = "finished.json"
# What may differ between the run that was and the one that is asked for.
_FREE = {"output_dir", "resume_from_checkpoint", "overwrite_output_dir", "disable_tqdm", "local_rank", "run_name"}


Train = Callable[[FinetuneArguments, FinetuneRunArguments], FinetuneResult]


def finish(arguments: FinetuneArguments, run: FinetuneRunArguments, train: Train = finetune) -> dict[str, object]:
    """Metrics of a run of `train`, with `main_metric` and `main_score` where it evaluates.

    With `run.resume_from_checkpoint` a finished run's are read, one that was cut short goes on from its last
    checkpoint, and one without any starts anew. Raises InputError where the finished run had other settings.
    """
    folder = Path(run.output_dir)
    record, settings = folder / _RECORD, _settings(arguments, run)
    if run.resume_from_checkpoint is not None:
        if record.is_file():
            return _finished(record, settings, flag_defaults(arguments, run))
        if not checkpoints(folder):
            run.resume_from_checkpoint, run.overwrite_output_dir = None, True
    elif record.is_file() and run.overwrite_output_dir and run.process_index == 0:
        record.unlink()
    result = train(arguments, run)
    results: dict[str, object] = dict(result.metrics)
    if result.main_score is not None:
        results |= {"main_metric": result.main_metric, "main_score": result.main_score}
    if run.process_index == 0:
        write_json(record, {"settings": settings, "results": results})
    return results


def check_resume(run: FinetuneRunArguments) -> None:
    """Raises InputError where a series is told to go on from one run's checkpoint."""
    if run.resume_from_checkpoint not in (None, LAST):
        raise InputError("several runs go on with --resume_from_checkpoint alone, not from one checkpoint")


def _finished(record: Path, settings: dict, defaults: dict) -> dict[str, object]:
    found = json.loads(record.read_text(encoding="utf-8"))
    had = defaults | found["settings"]  # flags that are newer than the run had their defaults
    for name, value in settings.items():
        if had.get(name) != value:
            raise InputError(
                f"{record.parent} is finished, with --{name} {had.get(name)} and not {value}: choose another "
                "--output_dir or replace it with --overwrite_output_dir"
            )
    return found["results"]


def _settings(arguments: FinetuneArguments, run: FinetuneRunArguments) -> dict[str, object]:
    values = plain({**asdict(arguments), **run.to_dict()})
    return {name: value for name, value in values.items() if name not in _FREE}
