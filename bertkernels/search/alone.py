"""Training a plan alone, through the same pre-training as any encoder, and only once."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.differences import differences
from bertkernels.training.output_folder import LAST
from bertkernels.training.pretrain import pretrain
from bertkernels.training.pretrain_arguments import PretrainArguments
from bertkernels.training.results_file import write_json
from bertkernels.training.training_arguments import PretrainRunArguments

MakeRun = Callable[[str, int], PretrainRunArguments]  # (output folder, seed) → arguments of a run

_RECORD, _LOG = "finished.json", "output.log"
# what may differ between the run that was and the one that is asked for
_FREE = {
    *("output_dir", "logging_dir", "resume_from_checkpoint", "overwrite_output_dir", "disable_tqdm", "run_name"),
    *("local_rank", "use_cpu", "dataloader_num_workers"),
}


@dataclass(frozen=True)
class Job:
    """One run: of a configuration, which is written beside it, with a seed."""

    name: str
    seed: int
    folder: str
    objective: str
    config_file: str
    prepared_dir: str


def finished_run(job: Job, make_run: MakeRun) -> dict[str, float] | None:
    """The metrics of a run that is finished, None of any other. Raises InputError where it had other settings."""
    record = File(job.folder, _RECORD)
    if not record.is_file():
        return None
    found = json.loads(record.read_text(encoding="utf-8"))
    changes = list(differences(found["settings"], _settings(job, make_run(job.folder, job.seed))))
    if changes:
        raise InputError(
            f"{job.folder} is finished, with other settings; choose another --output_dir:\n  " + "\n  ".join(changes)
        )
    return found["metrics"]


def train_alone(job: Job, make_run: MakeRun) -> dict[str, float]:
    """What the trained model reaches on the held-out text, metrics by name.

    A run that was cut short goes on from its last checkpoint. What `finished_run` reads is left behind.
    """
    folder = File(job.folder)
    run = make_run(job.folder, job.seed)
    settings = _settings(job, run)
    if checkpoints(folder):
        run.resume_from_checkpoint = LAST
    else:
        run.overwrite_output_dir = True
    folder.mkdir(parents=True, exist_ok=True)
    arguments = PretrainArguments(objective=job.objective, config_file=job.config_file, prepared_dir=job.prepared_dir)
    with (
        open(folder / _LOG, "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        pretrain(arguments, run)
    metrics = json.loads((folder / "eval_results.json").read_text(encoding="utf-8"))
    metrics = {name.removeprefix("eval_"): value for name, value in metrics.items() if name.startswith("eval_")}
    write_json(folder / _RECORD, {"settings": settings, "metrics": metrics})
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint)
    return metrics


def _settings(job: Job, run: PretrainRunArguments) -> dict:
    values = {name: value for name, value in run.to_dict().items() if name not in _FREE}
    model = json.loads(File(job.config_file).read_text(encoding="utf-8"))
    return json.loads(json.dumps({"run": values, "model": model, "objective": job.objective}, default=str))
