"""The flags of several runs of fine-tuning in one command."""

from dataclasses import dataclass, field

from bertkernels.errors import InputError


@dataclass
class SeedArguments:
    """How many runs."""

    num_seeds: int | None = field(
        default=None, metadata={"help": "So many runs, with seeds from --seed on; median and spread are reported."}
    )
    seeds: list[int] | None = field(default=None, metadata={"help": "A run with each of these seeds."})


@dataclass
class SeriesArguments(SeedArguments):
    """Published hyper-parameters, and how many runs."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "Published hyper-parameters by name (electra-small, convbert-base, theseus-predecessor, ...), for "
            "the task at hand; any other flag overrides its value."
        },
    )
    list_recipes: bool = field(default=False, metadata={"help": "List the recipes and do nothing else."})


def chosen_seeds(arguments: SeedArguments, first: int) -> list[int] | None:
    """The seeds of the runs, None for a single run. Raises InputError for both flags, and for a bad value."""
    if arguments.seeds is None and arguments.num_seeds is None:
        return None
    if arguments.seeds is not None and arguments.num_seeds is not None:
        raise InputError("give --seeds or --num_seeds, not both")
    if arguments.num_seeds is not None:
        if arguments.num_seeds < 1:
            raise InputError(f"--num_seeds must be at least 1, not {arguments.num_seeds}")
        return list(range(first, first + arguments.num_seeds))
    if not arguments.seeds or len(set(arguments.seeds)) < len(arguments.seeds) or min(arguments.seeds) < 0:
        raise InputError(f"--seeds must be different numbers from 0 on, not {arguments.seeds}")
    return arguments.seeds
