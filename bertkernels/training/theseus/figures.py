"""Size and speed of a successor beside its predecessor."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from transformers import PreTrainedModel

from bertkernels.models.cost import forward_flops
from bertkernels.training.finetune import TaskData
from bertkernels.training.theseus.trainer import TheseusTrainer

_ROWS = 32

# (calls by name, seconds for all, device) → milliseconds of each; such as `bertkernels.bench.timing.milliseconds`
Measure = Callable[[Mapping[str, Callable[[], object]], float, torch.device], Mapping[str, float]]


@dataclass(frozen=True)
class ModelFigures:
    """parameters: of the whole model, and of its blocks. flops: products of a forward pass over one sequence of the
    task's longest inputs. milliseconds: of a forward pass over a batch of the task's rows, the median; None: not
    measured."""

    plan: str
    parameters: int
    block_parameters: int
    flops: int
    milliseconds: float | None = None


def compare_models(
    trainer: TheseusTrainer, data: TaskData, measure: Measure | None, seconds: float
) -> dict[str, object]:
    """Figures of both models, and how many times as fast the successor was, taken in turns in this process."""
    pair = trainer.pair
    models = {"predecessor": pair.predecessor, "successor": pair.model}
    timed = measure is not None and seconds > 0
    times = measure(_calls(models, trainer, data), seconds, trainer.args.device) if timed else dict.fromkeys(models)
    found = {name: asdict(_figures(model, data.length, times[name])) for name, model in models.items()}
    batch = f"{min(_ROWS, len(_features(data)))} rows of the task, {torch.get_num_threads()} threads"
    if timed:
        found |= {
            "speedup": times["predecessor"] / times["successor"],
            "measured_on": f"{trainer.args.device}, {batch}",
        }
    return found


def _figures(model: PreTrainedModel, tokens: int, milliseconds: float | None) -> ModelFigures:
    blocks = sum(parameter.numel() for parameter in model.model.encoder.parameters())
    flops = forward_flops(model.config, tokens)
    return ModelFigures(model.config.plan, model.num_parameters(), blocks, flops, milliseconds)


def _features(data: TaskData):
    split = next(iter(data.evaluation.values()), data.train)
    return split.features


def _calls(
    models: dict[str, PreTrainedModel], trainer: TheseusTrainer, data: TaskData
) -> dict[str, Callable[[], object]]:
    """A forward pass of each over the same rows."""
    features = _features(data)
    rows = [features[index] for index in range(min(_ROWS, len(features)))]
    known = ("input_ids", "attention_mask", "token_type_ids")
    columns = [{name: value for name, value in row.items() if name in known} for row in rows]
    batch = trainer._prepare_inputs({k: v for k, v in trainer.data_collator(columns).items() if k in known})

    def call(model: PreTrainedModel):
        def run() -> object:
            with torch.inference_mode():
                return model(**batch)

        return run

    for model in models.values():
        model.eval()
    return {name: call(model) for name, model in models.items()}
