"""What each module's replacement costs: the predecessor's score with that module alone replaced.

Source: the analysis of Xu et al. 2020 (arXiv 2002.02925).
"""

from dataclasses import dataclass

from bertkernels.training.finetune import TaskData
from bertkernels.training.theseus.trainer import TheseusTrainer


@dataclass(frozen=True)
class ModuleScore:
    """The main metric, mean over the evaluated splits, with the named modules replaced. `blocks`: of a single module,
    the predecessor's that it stands for."""

    replaced: str
    blocks: str
    score: float


def module_scores(trainer: TheseusTrainer, data: TaskData) -> list[ModuleScore]:
    """Of the predecessor, of it with each module alone replaced, and of the successor.

    Every process must call it. Embeddings and head must be the predecessor's.
    """
    encoder, modules = trainer.encoder, len(trainer.pair.module_map)
    groups = str(trainer.pair.module_map).split()
    found = [ModuleScore("none", "", _score(trainer, data, (False,) * modules))]
    for module in range(modules):
        gates = tuple(index == module for index in range(modules))
        found.append(ModuleScore(str(module), groups[module], _score(trainer, data, gates)))
    found.append(ModuleScore("all", "", _score(trainer, data, (True,) * modules)))
    encoder.gates = None
    return found


def _score(trainer: TheseusTrainer, data: TaskData, gates: tuple[bool, ...]) -> float:
    trainer.encoder.gates = gates
    scores = [data.task.metrics(split, trainer.outputs(split))[data.task.metric] for split in data.evaluation.values()]
    return sum(scores) / len(scores)
