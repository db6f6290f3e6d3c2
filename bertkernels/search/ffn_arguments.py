"""The flags of `bertkernels search --space ffn`, beside those of distillation and of the run."""

from dataclasses import dataclass, field
from typing import Literal

from bertkernels.errors import InputError
from bertkernels.search.ffn_space import SHAPES, STAGES
from bertkernels.search.genetic_sampler import Genetics
from bertkernels.search.partition_sampler import PartitionSettings

PARTITION, GENETIC, CHANCE = SAMPLERS = ("partition", "genetic", "random")


@dataclass
class FfnSearchArguments:
    """What to search, by which sampler, and with how many workers."""

    space: Literal["ffn"] = field(
        default="ffn", metadata={"help": "ffn: expressions and shapes of feed-forward layers (see also: layers)."}
    )
    stage: Literal[1, 2, 3] = field(
        default=1,
        metadata={
            "help": "1: expressions and shapes, each candidate is trained. 2: expressions of a --genotype, likewise. "
            "3: shapes, with the supernet's own weights."
        },
    )
    supernet: str | None = field(
        default=None,
        metadata={
            "help": 'Folder of an encoder such as "6*(attention expression_ffn[stack=4])" that candidates are cut out '
            "of; for stage 3 with the task's head, trained with --sample_shapes (with --multi_task: a folder of "
            "several tasks, which candidates are evaluated on by the mean)."
        },
    )
    genotype: str | None = field(
        default=None, metadata={"help": "Where to start from: a file, such as the genotype.json of an earlier stage."}
    )
    sampler: Literal["partition", "genetic", "random"] = field(
        default=PARTITION,
        metadata={"help": "partition: EfficientBERT's, needs LightGBM; genetic and random to compare it with."},
    )
    evaluations: int = field(default=1000, metadata={"help": "Candidates to evaluate in all (published: no number)."})
    initial_samples: int = field(default=80, metadata={"help": "partition: random candidates first (published)."})
    refit_interval: int = field(default=10, metadata={"help": "partition: learned anew after so many (published)."})
    rejection_tries: int = field(
        default=20_000, metadata={"help": "partition: candidates drawn at most for one that is promising (published)."}
    )
    population: int = field(default=50, metadata={"help": "genetic: candidates in a generation."})
    parents: int = field(default=10, metadata={"help": "genetic: the best so far that have children."})
    mutation_share: float = field(default=0.5, metadata={"help": "genetic: of mutations among children."})
    mutation_probability: float = field(default=0.3, metadata={"help": "genetic: of a block of a mutation to change."})
    text_steps: int = field(
        default=0, metadata={"help": "Steps on --prepared_dir that a candidate trains before the task (0: none)."}
    )
    text_learning_rate: float = field(default=1e-4, metadata={"help": "Their learning rate (published)."})
    text_batch_size: int = field(default=64, metadata={"help": "Their examples at once (published)."})
    text_teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Their teacher (default: the task's)."}
    )
    hall_of_fame: int = field(default=50, metadata={"help": "Of the best candidates, so many are listed (published)."})
    storage: str | None = field(
        default=None,
        metadata={"help": "URL of an Optuna storage for many machines (default: a journal in --output_dir)."},
    )
    study_name: str = field(default="ffn", metadata={"help": "Name of the study in the storage."})
    workers: int = field(default=1, metadata={"help": "Processes on this machine; its threads are shared among them."})
    grace_seconds: float = field(
        default=120.0,
        metadata={"help": "After so long without a sign of life another machine's evaluation is done again."},
    )

    @property
    def genetics(self) -> Genetics:
        """The settings of the evolution. Raises InputError for those out of range."""
        return Genetics(self.population, self.parents, self.mutation_share, self.mutation_probability)

    @property
    def partition(self) -> PartitionSettings:
        """The settings of the partition. Raises InputError for those out of range."""
        return PartitionSettings(self.initial_samples, self.refit_interval, self.rejection_tries)


def check_ffn_arguments(arguments: FfnSearchArguments, prepared_dir: str | None) -> None:
    """Raises InputError for values out of range, and for flags that are missing."""
    if arguments.supernet is None:
        raise InputError("--supernet is missing")
    if arguments.stage not in STAGES:
        raise InputError(f"--stage must be 1, 2 or 3, not {arguments.stage}")
    if arguments.sampler not in SAMPLERS:
        raise InputError(f"--sampler must be one of {', '.join(SAMPLERS)}, not {arguments.sampler!r}")
    for name, least in {
        "evaluations": 1,
        "workers": 1,
        "text_steps": 0,
        "text_batch_size": 1,
        "hall_of_fame": 1,
    }.items():
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} must be at least {least}, not {getattr(arguments, name)}")
    if not arguments.grace_seconds > 0:
        raise InputError(f"--grace_seconds must be above 0, not {arguments.grace_seconds}")
    if bool(arguments.text_steps) != (prepared_dir is not None):
        raise InputError("candidates train on text with --text_steps and --prepared_dir: give both or neither")
    if arguments.text_steps and arguments.stage == SHAPES:
        raise InputError("--text_steps is of stages 1 and 2: stage 3 trains nothing")
    arguments.genetics, arguments.partition  # noqa: B018  (check themselves)
