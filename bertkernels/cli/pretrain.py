"""`bertkernels pretrain`: ELECTRA or masked-language-model pre-training of any encoder."""

from bertkernels.cli.arguments import parse_arguments


def run(argv: list[str]) -> int:
    """Pre-trains as the flags say and prints where the result is."""
    from bertkernels.training.pretrain import PretrainArguments, pretrain
    from bertkernels.training.training_arguments import PretrainRunArguments

    description = (
        "Pre-trains an encoder on text, by ELECTRA or as a masked language model. A file may hold the options."
    )
    arguments, training = parse_arguments("pretrain", description, argv, PretrainArguments, PretrainRunArguments)
    result = pretrain(arguments, training)
    if training.process_index == 0:
        print(f"Pre-trained encoder: {result.encoder}")
    return 0
