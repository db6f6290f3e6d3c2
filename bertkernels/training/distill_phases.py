"""Distillation in several phases, each a run in a folder of its own that goes on from the one before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bertkernels.training.distill import distill
from bertkernels.training.distill_arguments import STUDENT_FIELDS, DistillArguments
from bertkernels.training.finetuned_folder import BEST_MODEL, RESULTS
from bertkernels.training.finished_run import finish
from bertkernels.training.results_file import write_json
from bertkernels.training.seeds import over_seeds, seed_folder
from bertkernels.training.training_arguments import FinetuneRunArguments

Flags = tuple[DistillArguments, FinetuneRunArguments]


def distill_phases(
    phases: Sequence[str | None], folder: Path, flags: Callable[[str | None, Path], Flags]
) -> dict[str, object]:
    """Runs the phases, each in a folder of its name, and returns the results of the last, which are also written.

    A single phase without a name runs in `folder` itself.

    Args:
        flags: arguments of a phase in a folder, as for a run that is the only one.
    """
    if phases == [None]:
        return finish(*flags(None, folder), distill)
    results, before = {}, None
    for phase in phases:
        place = folder / phase
        arguments, run = flags(phase, place)
        if before is not None:
            arguments = _go_on(arguments, before)
        results, before = finish(arguments, run, distill), place
    if run.process_index == 0:
        write_json(folder / RESULTS, results | {BEST_MODEL: phases[-1]})
    return results


def distill_seeds(
    seeds: Sequence[int], folder: Path, run_seed: Callable[[int, Path], dict[str, object]], first: bool
) -> dict[str, object]:
    """Runs each seed, all phases, in a folder of its own; returns what `over_seeds` says of them, and writes it.

    Args:
        run_seed: does the run with a seed in a folder and returns its results.
        first: whether this process writes.
    """
    summary = over_seeds({seed: run_seed(seed, folder / seed_folder(seed)) for seed in seeds})
    if first:
        write_json(folder / RESULTS, summary)
    return summary


def _go_on(arguments: DistillArguments, before: Path) -> DistillArguments:
    """The arguments with the student that stands in a folder in place of the one that they describe."""
    fresh = dict.fromkeys(("preset", "init_from_teacher", *STUDENT_FIELDS))
    return replace(arguments, model_name_or_path=str(before), from_scratch=False, **fresh)
