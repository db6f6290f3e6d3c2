"""The flags of `bertkernels search verify`, beside those of a training run."""

from dataclasses import dataclass, field

from bertkernels.errors import InputError


@dataclass
class VerifyArguments:
    """Which plans to train alone, and what to compare them with."""

    search_dir: str | None = field(
        default=None,
        metadata={"help": "A search's --output_dir: its best plans and those it was compared with, supernet and text."},
    )
    plans: str | None = field(
        default=None, metadata={"help": "File with a plan a line, or a name, a tab and a plan; beside the search's."}
    )
    supernet: str | None = field(default=None, metadata={"help": "Folder of the supernet (default: the search's)."})
    prepared_dir: str | None = field(
        default=None, metadata={"help": "What `bertkernels prepare` wrote (default: the search's)."}
    )
    fitness: str | None = field(default=None, metadata={"help": "What to compare (default: the search's)."})
    best: int = field(default=1, metadata={"help": "Of the plans that the search found, so many."})
    random_orders: int = field(default=5, metadata={"help": "Of the random orders that it was compared with."})
    named_orders: bool = field(default=True, metadata={"help": "The interleaved and sandwich orders too."})
    num_seeds: int = field(default=3, metadata={"help": "Runs of each plan, with seeds from --seed on."})
    workers: int = field(default=1, metadata={"help": "Runs at a time; the machine's threads are shared among them."})


def check_verify_arguments(arguments: VerifyArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range."""
    if arguments.search_dir is None:
        for name in ("plans", "supernet", "prepared_dir"):
            if getattr(arguments, name) is None:
                raise InputError(f"give --search_dir, or --plans, --supernet and --prepared_dir: --{name} is missing")
    for name, least in {"best": 0, "random_orders": 0, "num_seeds": 1, "workers": 1}.items():
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} must be at least {least}, not {getattr(arguments, name)}")
