"""`bertkernels analyze`: experiments on an encoder's blocks, from the command line or from one file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import expand_file, flags_of, parse_arguments, read_content
from bertkernels.errors import InputError

if TYPE_CHECKING:
    from bertkernels.analysis.experiment import Experiment
    from bertkernels.analysis.run import Make
    from bertkernels.analysis.subjects import Subjects

EXPERIMENTS = {
    "approximate": "how linear the parts of each block are: probes in closed form, and trained ones",
    "replace": "parts of blocks replaced by linear maps",
    "remove": "parts of blocks removed: of one block, or of more and more",
    "freeze": "fine-tuning with parts of the model frozen",
    "track": "hidden states of a data set written to files, with cones and CKA",
    "swap": "blocks in each other's place",
    "shuffle": "blocks in random orders with exactly so many in their place; shared weights",
    "heads": "importance of heads by four measures, and masks that follow from it",
    "variants": "blocks without skip connections, softmax, FFN, …",
    "comparison": "MLPs and CNNs on pictures, swapped and shuffled likewise",
}
_OTHERS = {
    "run": "many experiments from one file",
    "report": "tables and plots of experiments that are done, or under way",
}
_MODEL = (
    "The model was fine-tuned on the task, whose flags are those of `bertkernels finetune`; --do_train fine-tunes each "
    "changed model too. The same command again goes on where it was cut short, or joins one that runs. Options may "
    "also stand in a file."
)


def run(argv: list[str]) -> int:
    """Runs an experiment, several, or reports."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb not in (*EXPERIMENTS, *_OTHERS):
        raise InputError(f"unknown experiment {verb!r}; known: {', '.join((*EXPERIMENTS, *_OTHERS))}")
    if verb == "report":
        return _report(rest)
    try:
        return _run_file(rest) if verb == "run" else _run_one(verb, expand_file(rest))
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130


def _run_one(verb: str, argv: list[str]) -> int:
    from bertkernels.analysis.report.write import REPORT, write_report
    from bertkernels.analysis.run import run_experiments

    work, folder, anew, quiet = _work_flags(verb, argv)
    run_experiments([partial(_make, verb, argv)], work, anew, quiet)
    write_report([folder], folder)
    print(f"Report: {folder / REPORT}")
    return 0


def _run_file(argv: list[str]) -> int:
    from bertkernels.analysis.report.write import REPORT, write_report
    from bertkernels.analysis.run import run_experiments

    if not argv or argv[0].startswith("-"):
        raise InputError("`bertkernels analyze run` takes a YAML or JSON file of experiments, and flags that override")
    folder, planned = _read_plan(Path(argv[0]), argv[1:])
    flags = [_work_flags(verb, given) for verb, given in planned]
    workers = max(one[0] for one in flags)
    makes: list[Make] = [partial(_make, verb, given) for verb, given in planned]
    folders = run_experiments(makes, workers, any(one[2] for one in flags), any(one[3] for one in flags))
    write_report(folders, folder)
    print(f"Report: {folder / REPORT}")
    return 0


def _report(argv: list[str]) -> int:
    from bertkernels.analysis.report.arguments import ReportArguments
    from bertkernels.analysis.report.write import REPORT, find_experiments, write_report

    description = "Writes report.md, results.csv and plots of the experiments in folders, also while they run."
    (arguments,) = parse_arguments("analyze report", description, argv, ReportArguments)
    output = Path(arguments.output_dir)
    write_report(find_experiments(arguments.folders or [arguments.output_dir]), output)
    print(f"Report: {output / REPORT}")
    return 0


def _make(verb: str, argv: Sequence[str], subjects: "Subjects") -> "Experiment":
    """The experiment of these flags, in whatever process."""
    if verb == "comparison":
        from bertkernels.analysis.experiments.comparison import Comparison

        return Comparison(_parse(verb, argv)[0])
    from bertkernels.analysis.experiments.registry import ON_MODELS
    from bertkernels.training.series_arguments import chosen_seeds

    options, asked, arguments, training = _parse(verb, argv)
    seeds = chosen_seeds(asked, training.seed) or [training.seed]
    return ON_MODELS[verb][0](options, arguments, training, seeds, subjects)


def _work_flags(verb: str, argv: Sequence[str]) -> tuple[int, Path, bool, bool]:
    """Workers, output folder, whether to begin anew, and without a progress bar."""
    if verb == "comparison":
        (options,) = _parse(verb, argv)
        return options.workers, Path(options.output_dir), options.overwrite_output_dir, options.disable_tqdm
    _, _, arguments, training = _parse(verb, argv)
    anew, quiet = training.overwrite_output_dir, bool(training.disable_tqdm)
    return arguments.workers, Path(training.output_dir), anew, quiet


def _parse(verb: str, argv: Sequence[str]) -> tuple:
    description = f"{EXPERIMENTS[verb].capitalize()}. {_MODEL if verb != 'comparison' else ''}"
    return parse_arguments(f"analyze {verb}", description, list(argv), *_dataclasses(verb))


def _dataclasses(verb: str) -> list[type]:
    if verb == "comparison":
        from bertkernels.analysis.experiments.comparison import ComparisonArguments

        return [ComparisonArguments]
    from bertkernels.analysis.arguments import AnalysisArguments
    from bertkernels.analysis.experiments.registry import ON_MODELS
    from bertkernels.training.series_arguments import SeedArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return [ON_MODELS[verb][1], SeedArguments, AnalysisArguments, FinetuneRunArguments]


def _read_plan(file: Path, overrides: list[str]) -> tuple[Path, list[tuple[str, list[str]]]]:
    """The folder of all, and (experiment, flags) of each.

    The file has `output_dir`; `common`, flags of all experiments; and `experiments`, by names of folders, with flags of
    their own, which win over common ones. `experiment` among them says what it is, where the name does not.
    """
    content = read_content(file)
    unknown = sorted({*content} - {"output_dir", "common", "experiments"})
    if unknown:
        raise InputError(f"{file}: unknown {unknown[0]!r}; expected output_dir, common and experiments")
    common, experiments = content.get("common") or {}, content.get("experiments")
    if not isinstance(experiments, dict) or not experiments or not isinstance(common, dict):
        raise InputError(f"{file}: expected experiments by name, each with its flags, and common flags")
    overrides, output = _take(overrides, "--output_dir")
    output = output or content.get("output_dir")
    if not output:
        raise InputError(f"{file}: output_dir is missing")
    planned = []
    for name, own in experiments.items():
        own = dict(own or {})
        verb = own.pop("experiment", name)
        if verb not in EXPERIMENTS:
            raise InputError(f"{file}: {name} is no experiment; say `experiment:` one of {', '.join(EXPERIMENTS)}")
        known = _flag_names(verb)
        shared = {key: value for key, value in common.items() if key not in own}
        if verb == "comparison":  # has no model and no task
            shared = {key: value for key, value in shared.items() if key in known}
        given = _known_only(overrides, known) if verb == "comparison" else overrides
        planned.append((verb, [*flags_of(shared | own), *given, "--output_dir", str(Path(output, name))]))
    return Path(output), planned


def _flag_names(verb: str) -> set[str]:
    from dataclasses import fields

    return {one.name for dataclass in _dataclasses(verb) for one in fields(dataclass)}


def _take(argv: list[str], flag: str) -> tuple[list[str], str | None]:
    """Flags without this one, and its value."""
    if flag not in argv:
        return argv, None
    place = argv.index(flag)
    if place + 1 == len(argv):
        raise InputError(f"{flag} needs a value")
    return argv[:place] + argv[place + 2 :], argv[place + 1]


def _known_only(argv: list[str], known: set[str]) -> list[str]:
    """Those flags, with their values, that are among the known ones."""
    kept, keep = [], False
    for part in argv:
        if part.startswith("--"):
            keep = part[2:].split("=")[0] in known
        if keep:
            kept.append(part)
    return kept


def _usage() -> str:
    width = max(map(len, EXPERIMENTS))
    lines = [f"  {name:<{width}}  {what}" for name, what in (EXPERIMENTS | _OTHERS).items()]
    return (
        "usage: bertkernels analyze <experiment> [options]\n\n" + "\n".join(lines) + "\n\n"
        "`bertkernels analyze <experiment> --help` lists options."
    )
