"""The flags of a grid over a compression's rate and schedule."""

from dataclasses import dataclass, field


@dataclass
class GridArguments:
    """The paper's grid; each point is a run of its own, or one for each seed."""

    grid: bool = field(
        default=False,
        metadata={
            "help": "Compress with the linear schedule once for each combination of the three lists below; what is "
            "finished is kept in an Optuna study, and --resume_from_checkpoint goes on."
        },
    )
    grid_learning_rates: list[float] = field(
        default_factory=lambda: [1e-5, 2e-5], metadata={"help": "Learning rates (published: these)."}
    )
    grid_replacing_rates: list[float] = field(
        default_factory=lambda: [0.1, 0.3], metadata={"help": "First replacing rates b (published: these)."}
    )
    grid_steps: list[int] = field(
        default_factory=lambda: [1000, 5000, 10000, 30000],
        metadata={"help": "Steps in which the rate reaches 1, which give k = (1 - b) / steps (published: these)."},
    )
