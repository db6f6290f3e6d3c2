"""Fine-tuning of a successor whose modules stand in for its predecessor's, draw by draw."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from bertkernels.errors import InputError
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.theseus.arguments import CLIP_ORIGINAL, CLIP_TRAINED
from bertkernels.training.theseus.distillation import distillation_loss
from bertkernels.training.theseus.gates import draw_gates
from bertkernels.training.theseus.models import Pair
from bertkernels.training.theseus.rates import ReplacementRate, first_full_step

_MB = 2**20


@dataclass(frozen=True)
class TheseusSettings:
    """How to train, beside a run's arguments; see `TheseusArguments`."""

    rate: ReplacementRate
    clip: str = CLIP_TRAINED
    successor_learning_rate: float | None = None
    distillation_weight: float = 0.0
    distillation_temperature: float = 1.0


class TheseusTrainer(FinetuningTrainer):
    """`FinetuningTrainer` of a `Pair`'s successor.

    Each forward pass of training draws which modules are replaced, from seed, step and micro-batch alone. Evaluation,
    prediction and checkpoints are of the successor alone. The optimizer has the trained weights only.

    Modules that a batch did not replace have gradient zero in it, not none, so that momentum and weight decay move
    them, as in the released code; those that no batch has replaced yet are left alone, as there.
    """

    def __init__(self, *args, pair: Pair, settings: TheseusSettings, **kwargs) -> None:
        self.pair, self.settings = pair, settings
        self.encoder = pair.model.model.encoder
        self.memory_mb = 0.0  # of gradients and optimizer state, in the last step
        self._gates: tuple[bool, ...] = ()
        self._step, self._micro_batch = -1, 0
        self._drawn: set[int] = set()  # modules that the step has replaced
        super().__init__(*args, model=pair.model, **kwargs)
        pair.predecessor.to(self.args.device)
        if self.args.gradient_checkpointing:
            pair.predecessor.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)
        self._speed.measured = True  # the operations of one step say nothing of the next
        self.add_callback(_Steps(self))

    @property
    def gates(self) -> tuple[bool, ...]:
        """Those of the last forward pass of training."""
        return self._gates

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        step = self.state.global_step
        if step != self._step:
            self._step, self._micro_batch, self._drawn = step, 0, set()
        rate = self.settings.rate(step)
        self._gates = draw_gates(self.args.seed, step, self._micro_batch, rate, len(self.pair.module_map))
        self._micro_batch += 1
        self._drawn.update(module for module, replaced in enumerate(self._gates) if replaced)
        self.encoder.gates = self._gates
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self.encoder.gates = None
        counts = {"passes": 1.0, "replacing_rate": rate, "replaced": self._gates}
        self._sums.add(
            {name: torch.tensor(value, dtype=torch.float64, device=loss.device) for name, value in counts.items()}
        )
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.get("labels")
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        weight = self.settings.distillation_weight
        if weight:
            soft = distillation_loss(
                outputs, self._teacher(inputs), self.model.config, labels, self.settings.distillation_temperature
            )
            loss = (1 - weight) * loss + weight * soft
        loss = loss + _zero(self._left_out())
        return (loss, outputs) if return_outputs else loss

    def _teacher(self, inputs) -> dict[str, torch.Tensor]:
        teacher = self.pair.predecessor
        teacher.eval()
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                return teacher(**inputs)
        finally:
            self.model.train()  # which shares blocks and frozen embeddings with it

    def _left_out(self) -> list[nn.Parameter]:
        """Trained weights that this forward pass did not use."""
        return [p for module, replaced in enumerate(self._gates) if not replaced for p in self._weights(module)]

    def _weights(self, module: int) -> list[nn.Parameter]:
        return [p for block in self.encoder.module_blocks(module) for p in block.parameters()]

    def forget_untouched(self) -> None:
        """Takes the zero gradients from modules that were never replaced, of which the optimizer knows nothing."""
        for module in set(range(len(self.pair.module_map))) - self._drawn:
            for weight in self._weights(module):
                if not self.optimizer.state.get(weight):
                    weight.grad = None

    def end_step(self) -> None:
        """Measures what gradients and the optimizer's state take, and drops the predecessor's gradients."""
        weights = [*self.model.parameters(), *self._frozen_blocks()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        states = [x for state in self.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
        self.memory_mb = sum(x.numel() * x.element_size() for x in [*gradients, *states]) / _MB
        for weight in self._frozen_blocks():
            weight.grad = None

    def _frozen_blocks(self) -> list[nn.Parameter]:
        return list(self.pair.predecessor.model.encoder.parameters())

    def _clip_grad_norm(self, model) -> torch.Tensor:
        if self.settings.clip != CLIP_ORIGINAL:
            return super()._clip_grad_norm(model)
        frozen = [weight for weight in self._frozen_blocks() if weight.grad is not None]
        if torch.distributed.is_available() and torch.distributed.is_initialized() and frozen:
            for weight in frozen:  # no wrapper knows of them; all processes have the same
                torch.distributed.all_reduce(weight.grad)
                weight.grad /= self.accelerator.num_processes
        return self.accelerator.clip_grad_norm_([*model.parameters(), *frozen], self.args.max_grad_norm)

    def create_optimizer(self, *arguments, **named) -> torch.optim.Optimizer:
        with self._only_trained():
            return super().create_optimizer(*arguments, **named)

    @contextlib.contextmanager
    def _only_trained(self) -> Iterator[None]:
        """Has frozen weights look frozen, which clipping may want gradients of."""
        frozen = [p for n, p in self.model.named_parameters() if p.requires_grad and n not in self.pair.trained]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        peak = self.settings.successor_learning_rate
        if peak is None:
            return scheduler
        begin = first_full_step(self.settings.rate, num_training_steps)
        if begin is None:
            raise InputError(
                f"--successor_learning_rate: the replacing rate is below 1 to the end of the {num_training_steps} "
                "steps, so that the successor is never trained alone"
            )
        if not isinstance(scheduler, LambdaLR):
            raise InputError(
                f"--successor_learning_rate does not go with --lr_scheduler_type {self.args.lr_scheduler_type}"
            )
        before, share = scheduler.lr_lambdas[0], peak / self.args.learning_rate
        left = num_training_steps - begin

        def factor(step: int) -> float:
            return before(step) if step < begin else share * max(0.0, num_training_steps - step) / left

        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
        return self.lr_scheduler

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        passes = sums["passes"].item()
        found = {"replacing_rate": sums["replacing_rate"].item() / passes}
        found |= {f"replaced_{module}": value / passes for module, value in enumerate(sums["replaced"].tolist())}
        return found | {"state_mb": self.memory_mb}


class _Steps(TrainerCallback):
    def __init__(self, trainer: TheseusTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self._trainer.forget_untouched()

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self._trainer.end_step()


def _zero(weights: list[nn.Parameter]) -> torch.Tensor | float:
    """0, whose gradient for each of these weights is zero; any process then waits for the same gradients."""
    return 0.0 * torch.stack([weight.flatten()[0] for weight in weights]).sum() if weights else 0.0
