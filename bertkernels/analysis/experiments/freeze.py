"""Fine-tuning with parts of the model frozen: what needs to learn."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.freezing import select
from bertkernels.analysis.jobs import Trial
from bertkernels.errors import InputError


@dataclass
class FreezeArguments:
    """What is frozen."""

    selectors: list[str] = field(
        default_factory=lambda: ["part:ffn", "part:attention", "embeddings"],
        metadata={"help": "A run with each of these frozen: blocks:4-7, part:ffn, position:0-3, embeddings, pooler, …"},
    )


class Freeze(ModelExperiment):
    """The unchanged model has nothing frozen but what `--freeze` names."""

    name = "freeze"
    options: FreezeArguments

    def check(self) -> None:
        super().check()
        if not self.run.do_train:
            raise InputError("what is frozen shows in training: give --do_train")

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        for text in self.options.selectors:
            select(self.subject.layered, text)  # raises InputError before anything is trained
        return [Trial(f"freeze {text}", {"frozen": text}, freeze=text) for text in self.options.selectors]
