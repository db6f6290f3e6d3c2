"""`bertkernels finetune`: an encoder on sentences, pairs of them, or questions on texts."""

from bertkernels.cli.arguments import parse_arguments


def run(argv: list[str]) -> int:
    """Fine-tunes as the flags say and prints the evaluation."""
    from bertkernels.training.finetune import finetune
    from bertkernels.training.finetune_arguments import FinetuneArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    description = (
        "Fine-tunes an encoder on classification or regression of text or on question answering. Options may also "
        "stand in a file."
    )
    arguments, training = parse_arguments("finetune", description, argv, FinetuneArguments, FinetuneRunArguments)
    result = finetune(arguments, training)
    if training.process_index == 0:
        for name, value in sorted(result.metrics.items()):
            if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second")):
                print(f"{name:>24}: {value:.4f}")
        print(f"Fine-tuned model: {result.output_dir}")
    return 0
