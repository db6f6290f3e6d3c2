"""Which heads matter, by four measures, and what is left as they are masked one after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bertkernels.analysis import changes
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.head_importance import (
    GRADIENT,
    LEAVE_ONE_IN,
    LEAVE_ONE_OUT,
    NORM,
    Head,
    all_heads,
    importance_by_gradient,
    importance_by_norm,
)
from bertkernels.analysis.jobs import DIRECT, MEASURED, UNCHANGED, Job, Trial
from bertkernels.analysis.layers import adapt
from bertkernels.errors import InputError

MEASURES = (GRADIENT, NORM, LEAVE_ONE_OUT, LEAVE_ONE_IN)
_MEASURED = {GRADIENT, NORM}


@dataclass
class HeadsArguments:
    """Which measures, and what follows from them."""

    importance: list[str] = field(
        default_factory=lambda: list(MEASURES),
        metadata={
            "help": "gradient: of the loss on the training rows with respect to the head's mask; norm: of its weights; "
            "leave_one_out: the score that is lost without it; leave_one_in: the score with it as its block's only one."
        },
    )
    gradient_batch_size: int = field(
        default=1, metadata={"help": "Rows whose gradient is taken at once; in larger batches, signs cancel."}
    )
    cumulative: list[str] = field(
        default_factory=lambda: list(MEASURES),
        metadata={"help": "Mask heads one after the other in the orders of these measures; none: not at all."},
    )
    head_step: int = field(default=1, metadata={"help": "Heads more at each step of that."})
    best_alone: bool = field(
        default=True, metadata={"help": "For each block and measure, mask all heads of the block but the best one."}
    )


class Heads(ModelExperiment):
    """First the measures, then what follows from them. Attention and convolution heads count alike."""

    name = "heads"
    options: HeadsArguments

    def check(self) -> None:
        super().check()
        options = self.options
        if options.cumulative == ["none"]:
            options.cumulative = []
        for flag in ("importance", "cumulative"):
            unknown = [name for name in getattr(options, flag) if name not in MEASURES]
            if unknown:
                raise InputError(f"--{flag} must be of {', '.join(MEASURES)}, not {unknown[0]!r}")
        missing = [name for name in options.cumulative if name not in options.importance]
        if missing:
            raise InputError(f"--cumulative {missing[0]} needs --importance {missing[0]}")
        for flag in ("head_step", "gradient_batch_size"):
            if getattr(options, flag) < 1:
                raise InputError(f"--{flag} must be at least 1, not {getattr(options, flag)}")

    def own_settings(self) -> dict:
        if GRADIENT not in self.options.importance:
            return {}
        rows = len(self.subject.train.features)
        return {"gradient_rows": rows, "gradient_batch_size": self.options.gradient_batch_size}

    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        """What masks say of heads is asked directly, also where trials are fine-tuned too."""
        measured = [Job(Trial(f"importance by {name}", {"measure": name}), MEASURED) for name in self._asked(_MEASURED)]
        single = [Job(trial) for trial in self._single()]
        first = [*self.scoring_jobs([Trial(UNCHANGED)]), *measured, *single]
        if single and not self.arguments.direct:
            first = [Job(Trial(UNCHANGED)), *first]
        done = {line["job"] for line in lines}
        if any(job.key not in done for job in first):
            return [*first[: self._begins(first, done)]]
        return first + self.scoring_jobs(self.trials(lines))

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        """Masks that follow from the importance of heads."""
        trials: list[Trial] = []
        for measure in self.options.importance:
            table = importance_table(lines, measure)
            ranked = sorted(table, key=lambda head: (-table[head], head))
            if self.options.best_alone:
                trials += self._best_alone(measure, ranked)
            if measure in self.options.cumulative:
                trials += self._cumulative(measure, "from_most", ranked)
                trials += self._cumulative(measure, "from_least", ranked[::-1])
        return trials

    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        if job.phase != MEASURED:
            return super().do(job, lines)
        subject = self.subject
        layered = adapt(subject.model)  # whose weights are adapted by now
        if job.trial.labels["measure"] == NORM:
            table = importance_by_norm(layered)
        else:
            rows = subject.labelled_batches(subject.train.features, self.options.gradient_batch_size)
            table = importance_by_gradient(layered, rows)
        return {"importance": [[None if math.isnan(value) else value for value in row] for row in table.tolist()]}

    def _begins(self, first: Sequence[Job], done: set[str]) -> int:
        """How many of the first jobs may begin: the unchanged model's come before all others."""
        unchanged = [job for job in first if job.trial.name == UNCHANGED]
        return len(first) if all(job.key in done for job in unchanged) else len(unchanged)

    def _asked(self, among: set[str]) -> list[str]:
        return [name for name in self.options.importance if name in among]

    def _heads(self) -> list[Head]:
        found = list(all_heads(self.subject.layered))
        if not found:
            raise InputError("the model has no heads to mask")
        return found

    def _single(self) -> list[Trial]:
        heads, found = self._heads(), []
        for measure in self._asked({LEAVE_ONE_OUT, LEAVE_ONE_IN}):
            for block, head in heads:
                masked = [(block, head)] if measure == LEAVE_ONE_OUT else _others(heads, block, head)
                name = f"{measure} {block} {head}"
                labels = {"measure": measure, "block": block, "head": head}
                found.append(Trial(name, labels, (changes.mask_heads(masked),)))
        return found

    def _best_alone(self, measure: str, ranked: Sequence[Head]) -> list[Trial]:
        best: dict[int, int] = {}
        for block, head in ranked:
            best.setdefault(block, head)
        return [
            Trial(
                f"block {block}: its best head by {measure} alone",
                {"best_by": measure, "block": block, "head": head},
                (changes.mask_heads(_others(ranked, block, head)),),
            )
            for block, head in sorted(best.items())
        ]

    def _cumulative(self, measure: str, direction: str, ranked: Sequence[Head]) -> list[Trial]:
        step = self.options.head_step
        counts = [*range(step, len(ranked), step), len(ranked)]
        return [
            Trial(
                f"{count} heads masked {direction} by {measure}",
                {"ranked_by": measure, "direction": direction, "masked": count},
                (changes.mask_heads(sorted(ranked[:count])),),
            )
            for count in counts
        ]


def importance_table(lines: Sequence[dict], measure: str) -> dict[Head, float]:
    """Each head's importance by a measure, the more the more important, from the lines of its jobs."""
    if measure in _MEASURED:
        (table,) = (line["importance"] for line in lines if line.get("measure") == measure)
        return {
            (block, head): value
            for block, row in enumerate(table)
            for head, value in enumerate(row)
            if value is not None
        }
    found = {}
    for line in lines:
        if line.get("measure") == measure and line["phase"] == DIRECT:
            lost = line["before"] - line["after"]
            found[line["block"], line["head"]] = lost if measure == LEAVE_ONE_OUT else line["after"]
    return found


def importance_matrix(table: dict[Head, float]) -> np.ndarray:
    """float64 [L, H]; NaN where a block has fewer heads."""
    blocks, heads = (1 + max(head[axis] for head in table) for axis in (0, 1))
    matrix = np.full((blocks, heads), np.nan)
    for (block, head), value in table.items():
        matrix[block, head] = value
    return matrix


def _others(heads: Sequence[Head], block: int, head: int) -> list[Head]:
    """The other heads of that block."""
    return sorted(other for other in heads if other[0] == block and other[1] != head)
