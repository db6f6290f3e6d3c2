"""`bertkernels pretrain`: ELECTRA or masked-language-model pre-training of any encoder."""

from bertkernels.cli.arguments import expand_file, parse_arguments

_DESCRIPTION = "Pre-trains an encoder on text, by ELECTRA or as a masked language model. A file may hold the options."


def run(argv: list[str]) -> int:
    """Pre-trains as the flags and the recipe say and prints where the result is."""
    from bertkernels.training.pretrain import pretrain
    from bertkernels.training.recipes.apply import given_flags
    from bertkernels.training.recipes.names import list_recipes
    from bertkernels.training.recipes.pretraining import RECIPES
    from bertkernels.training.recipes.pretraining_flags import recipe_for_run

    argv = expand_file(argv)
    asked, arguments, training = _parse(argv)
    if asked.list_recipes:
        print(list_recipes(RECIPES))
        return 0
    recipe = recipe_for_run(asked, arguments, training, given_flags(argv))
    if recipe is not None:
        flags, description = recipe
        if training.process_index == 0:
            print(description, flush=True)
        _, arguments, training = _parse([*flags, *argv])
    result = pretrain(arguments, training)
    if training.process_index == 0:
        print(f"Pre-trained encoder: {result.encoder}")
    return 0


def _parse(argv: list[str]) -> tuple:
    from bertkernels.training.pretrain_arguments import PretrainArguments
    from bertkernels.training.recipes.pretraining_flags import PretrainRecipeArguments
    from bertkernels.training.training_arguments import PretrainRunArguments

    dataclasses = (PretrainRecipeArguments, PretrainArguments, PretrainRunArguments)
    return parse_arguments("pretrain", _DESCRIPTION, argv, *dataclasses)
