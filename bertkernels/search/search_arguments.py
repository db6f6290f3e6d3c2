"""The flags of `bertkernels search`."""

from dataclasses import dataclass, field
from typing import Literal

from bertkernels.errors import InputError
from bertkernels.search.genetic_sampler import Genetics

_NOT_PUBLISHED = "single-path one-shot search's; LV-BERT's paper does not say"


@dataclass
class SearchArguments:
    """What to search, how to judge it, and with how many workers."""

    supernet: str = field(metadata={"help": "Folder of the supernet that `bertkernels pretrain` wrote."})
    prepared_dir: str = field(
        metadata={"help": "What `bertkernels prepare --validation_share` wrote: plans are judged on its held-out text."}
    )
    output_dir: str = field(
        metadata={"help": "Where study, records, plots and report go. The same command again goes on, or joins."}
    )
    space: Literal["layers"] = field(
        default="layers",
        metadata={"help": "layers: which kind of sub-layer each slot of the supernet has (see also: ffn)."},
    )
    storage: str | None = field(
        default=None,
        metadata={
            "help": "URL of an Optuna storage for many machines, such as mysql://… or sqlite:///study.db (default: a "
            "journal in --output_dir, which machines with a common file system can share)."
        },
    )
    study_name: str = field(default="layers", metadata={"help": "Name of the study in the storage."})
    fitness: Literal["masked_lm_accuracy", "rtd_accuracy", "rtd_auc", "next_sentence_accuracy", "loss"] | None = field(
        default=None,
        metadata={
            "help": "What is measured of plans with inherited weights (default: the supernet's objective's accuracy: "
            "masked_lm_accuracy or rtd_accuracy); of loss, less is better."
        },
    )
    fitness_examples: int = field(default=512, metadata={"help": "Held-out examples to measure it on."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Examples at once."})
    evaluations: int = field(
        default=1000, metadata={"help": f"Plans to evaluate in all: 20 generations ({_NOT_PUBLISHED})."}
    )
    population: int = field(default=50, metadata={"help": f"Plans in a generation ({_NOT_PUBLISHED})."})
    parents: int = field(default=10, metadata={"help": f"The best so far that have children ({_NOT_PUBLISHED})."})
    mutation_share: float = field(
        default=0.5,
        metadata={"help": f"Of mutations among children; the rest are crossovers ({_NOT_PUBLISHED})."},
    )
    mutation_probability: float = field(
        default=0.1, metadata={"help": f"Of a slot of a mutation to get another kind ({_NOT_PUBLISHED})."}
    )
    random_orders: int = field(
        default=10, metadata={"help": "Random plans within the limits to compare with, beside the search."}
    )
    named_orders: bool = field(
        default=True, metadata={"help": "Compare with interleaved and sandwich orders too, whatever the limits."}
    )
    max_parameters: int | None = field(default=None, metadata={"help": "Of the encoder, embeddings included."})
    max_flops: float | None = field(
        default=None, metadata={"help": "Of a forward pass over one sequence of the prepared length: products, as two."}
    )
    max_latency_ms: float | None = field(
        default=None,
        metadata={"help": "Of a forward pass, as the sum of its parts, which are measured once when a study begins."},
    )
    latency_batch: int = field(default=8, metadata={"help": "Sequences of that forward pass."})
    counts: list[str] = field(
        default_factory=list,
        metadata={"help": "How many sub-layers of a kind: ffn=4, attention=2-6, dynamic_conv=-6, …"},
    )
    seed: int = field(default=0, metadata={"help": "Of the evolution and of random orders."})
    workers: int = field(default=1, metadata={"help": "Processes on this machine; its threads are shared among them."})
    grace_seconds: float = field(
        default=120.0,
        metadata={"help": "After so long without a sign of life another machine's evaluation is done again."},
    )
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU where there is a GPU."})
    disable_tqdm: bool = field(default=False, metadata={"help": "No progress bar."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Begin anew; an earlier study goes."})

    @property
    def genetics(self) -> Genetics:
        """The settings of the evolution. Raises InputError for those out of range."""
        return Genetics(self.population, self.parents, self.mutation_share, self.mutation_probability)


def check_arguments(arguments: SearchArguments) -> None:
    """Raises InputError for values out of range."""
    if arguments.space != "layers":
        raise InputError(f"--space must be layers, not {arguments.space!r}")
    least = {"evaluations": 1, "workers": 1, "fitness_examples": 1, "random_orders": 0, "latency_batch": 1}
    least |= {"per_device_eval_batch_size": 1, "seed": 0}
    for name, low in least.items():
        if getattr(arguments, name) < low:
            raise InputError(f"--{name} must be at least {low}, not {getattr(arguments, name)}")
    if not arguments.grace_seconds > 0:
        raise InputError(f"--grace_seconds must be above 0, not {arguments.grace_seconds}")
    arguments.genetics  # noqa: B018  (checks itself)
