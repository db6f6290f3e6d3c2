"""The plans to verify: a search's best, those it was compared with, and a file's."""

import json
from pathlib import Path as File

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig
from bertkernels.models.supernet import Path, path_of
from bertkernels.search.evaluation import RANDOM_ORDER
from bertkernels.search.report import REPORT_JSON
from bertkernels.search.verify_arguments import VerifyArguments

_FOUND = "found"


def read_search(folder: str) -> dict:
    """The report of a search. Raises InputError where there is none, or where nothing was found."""
    file = File(folder, REPORT_JSON)
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--search_dir {folder} has no {REPORT_JSON}: finish the search first") from error
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error})") from error
    if not report.get("found"):
        raise InputError(f"--search_dir {folder}: the search found nothing")
    return report


def chosen_plans(
    arguments: VerifyArguments, report: dict | None, config: EncoderConfig | ElectraConfig
) -> dict[str, Path]:
    """Plans by name. A plan that stands there twice is taken once, under its first name.

    Raises InputError for one that the supernet has no weights for, naming file and line.
    """
    plans: dict[str, str] = {}
    if report is not None:
        for place, entry in enumerate(report["best"][: arguments.best]):
            plans[_FOUND if place == 0 else f"{_FOUND} {place + 1}"] = entry["plan"]
        chance = [entry for entry in report["compared"] if entry["origin"] == RANDOM_ORDER]
        named = [entry for entry in report["compared"] if entry["origin"] != RANDOM_ORDER]
        for entry in [*(named if arguments.named_orders else []), *chance[: arguments.random_orders]]:
            plans[entry["name"]] = entry["plan"]
    chosen: dict[str, Path] = {name: path_of(config, plan) for name, plan in plans.items()}
    for number, name, plan in _lines(arguments.plans) if arguments.plans else ():
        if name in chosen:
            raise InputError(f"--plans {arguments.plans}, line {number}: there is another plan called {name!r}")
        try:
            chosen[name] = path_of(config, plan)
        except InputError as error:
            raise InputError(f"--plans {arguments.plans}, line {number}: {error}") from error
    distinct: dict[Path, str] = {}
    for name, path in chosen.items():
        distinct.setdefault(path, name)
    if not distinct:
        raise InputError("there are no plans to verify")
    return {name: path for path, name in distinct.items()}


def _lines(file: str) -> list[tuple[int, str, str]]:
    """Number, name and plan of each line that is not empty."""
    try:
        lines = File(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--plans {file}: {getattr(error, 'strerror', None) or error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        name, tab, plan = line.rpartition("\t")
        if plan.strip():
            found.append((number, name.strip() if tab else f"plan {number}", plan.strip()))
    return found
