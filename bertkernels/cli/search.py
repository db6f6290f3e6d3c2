"""`bertkernels search`: orders of sub-layers for an encoder by evolution, and whether they are what they seem."""

from functools import partial
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import expand_file, parse_arguments

if TYPE_CHECKING:
    from bertkernels.training.training_arguments import PretrainRunArguments

_DESCRIPTION = (
    "Searches for the order of an encoder's sub-layers: an evolution over plans, judged with the weights that they "
    "inherit from a supernet of `bertkernels pretrain --supernet_kinds`. The same command again goes on with a search "
    "that was cut short, and joins one that runs. `bertkernels search verify` trains plans alone and compares. "
    "`--space ffn` searches for feed-forward layers instead, and has flags of its own: `bertkernels search --space ffn "
    "--help`; `bertkernels search pipeline FILE` runs all of that search's stages."
)

_VERIFY = (
    "Trains plans alone, each with several seeds and the same budget, and says whether they come out in the order that "
    "inherited weights gave them. Plans are a search's best and those it was compared with, or a file's. Runs take the "
    "flags of `bertkernels pretrain`. The same command again goes on where it was cut short."
)


def run(argv: list[str]) -> int:
    """Searches as the flags say, and prints the plan that was found."""
    if argv and argv[0] == "verify":
        return _verify(argv[1:])
    if argv and argv[0] == "pipeline":
        from bertkernels.cli.ffn_pipeline import run_pipeline

        return run_pipeline(argv[1:])
    argv = expand_file(argv)
    if _space(argv) == "ffn":
        return _search_ffn(argv)
    from bertkernels.search.run import search_layers
    from bertkernels.search.search_arguments import SearchArguments

    (arguments,) = parse_arguments("search", _DESCRIPTION, argv, SearchArguments)
    try:
        report = search_layers(arguments)
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    found = report["found"]
    if found is not None:
        print(f'{report["settings"]["fitness"]} {found["fitness"]:.4f}: --plan "{found["plan"]}"')
    print(f"Report: {arguments.output_dir}/report.md")
    return 0


def _space(argv: list[str]) -> str | None:
    """What `--space` says last."""
    found = None
    for flag, value in zip(argv, [*argv[1:], None], strict=True):
        if flag == "--space":
            found = value
        elif flag.startswith("--space="):
            found = flag.partition("=")[2]
    return found


def _search_ffn(argv: list[str]) -> int:
    from bertkernels.cli.ffn_flags import parse_ffn_search

    flags = partial(parse_ffn_search, argv)
    _, _, training = flags([])  # first: --help
    from bertkernels.search.ffn_report import GENOTYPE
    from bertkernels.search.ffn_run import search_ffn

    try:
        report = search_ffn(flags)
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    found = report["found"]
    if found is not None:
        texts = "\n".join(found["genotype"])
        print(f"{report['settings']['fitness']} {found['fitness']:.4f}, {found['parameters']:,} parameters:\n{texts}")
        print(f'--genotype {training.output_dir}/{GENOTYPE}\n--plan "{found["plan"]}"')
    print(f"Report: {training.output_dir}/report.md")
    return 0


def _verify(argv: list[str]) -> int:
    from bertkernels.search.verify import verify
    from bertkernels.search.verify_report import REPORT, summary_lines

    argv = expand_file(argv)
    arguments, run = _parse_verify(argv)
    content = verify(arguments, run, partial(_run_of, argv))
    print("\n".join(summary_lines(content)))
    print(f"Report: {run.output_dir}/{REPORT}")
    return 0


def _run_of(argv: list[str], folder: str, seed: int) -> "PretrainRunArguments":
    """The flags of one run, of those of all."""
    given = [*argv, "--output_dir", folder, "--seed", str(seed), "--disable_tqdm", "true"]
    return _parse_verify(given)[1]


def _parse_verify(argv: list[str]) -> tuple:
    from bertkernels.search.verify_arguments import VerifyArguments
    from bertkernels.training.training_arguments import PretrainRunArguments

    return parse_arguments("search verify", _VERIFY, argv, VerifyArguments, PretrainRunArguments)
