"""`bertkernels prepare`: text into examples for pre-training."""

from bertkernels.cli.arguments import parse_arguments


def run(argv: list[str]) -> int:
    """Prepares what the flags name and says what became of it."""
    from bertkernels.data.prepare_text import PrepareArguments, prepare_text
    from bertkernels.data.prepared.summary import summary_lines

    description = "Reads text, tokenises and packs it into examples for pre-training. Options may also stand in a file."
    (arguments,) = parse_arguments("prepare", description, argv, PrepareArguments)
    prepared = prepare_text(arguments)
    print("\n".join(summary_lines(prepared.summary)))
    print(f"Prepared examples: {prepared.folder}")
    return 0
