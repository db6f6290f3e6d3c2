"""How far a model in half precision is from itself in fp64, beside plain torch in the same precision."""

import contextlib
from typing import NamedTuple

import torch
from torch import nn

HALVES = (torch.bfloat16, torch.float16)
MODES = ("dtype", "autocast")


class Run(NamedTuple):
    """What a forward and backward pass gave."""

    states: torch.Tensor  # [real tokens, C]
    gradients: dict[str, torch.Tensor]  # of the parameters by their names, in fp64


def autocast(half: torch.dtype | None) -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", half) if half else contextlib.nullcontext()


def run(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, half: torch.dtype | None = None) -> Run:
    """A pass over ids and mask [B, T], under autocast to `half` if that is given."""
    model.zero_grad()
    with autocast(half):
        states = model(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (states * weights.to(states.dtype)).sum().backward()
    return Run(states.detach(), _gradients(model))


def right_padded(lengths: tuple[int, ...] = (64, 29, 7, 50, 41, 33, 58, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [B, T]."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return _ids(mask), mask


def padded_here_and_there(rows: int = 8, length: int = 36) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of sequences of one length, with padding on both sides: each row begins one column later."""
    place = torch.arange(length + rows + 8) - torch.arange(rows)[:, None]
    mask = ((place >= 0) & (place < length)).long()
    return _ids(mask), mask


def without_padding(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same sequences, of one length, in a batch without padding: what code that cannot leave it out is given."""
    ids = ids[mask.bool()].view(ids.shape[0], -1)
    return ids, torch.ones_like(ids)


def _ids(mask: torch.Tensor) -> torch.Tensor:
    return torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1)) * mask


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    named = ((name, parameter.grad) for name, parameter in model.named_parameters())
    return {name: gradient.double() for name, gradient in named if gradient is not None}


def assert_within_twice(got: Run, eager: Run, exact: Run, what: str) -> None:
    """The error is at most twice that of eager torch, in Euclidean norm: of the states, and of each layer's gradient.

    (Of some thousand roundings the largest, in place of their norm, would differ by such factors by chance.)
    """
    got, eager, exact = ({"states": run.states} | _by_layer(run.gradients) for run in (got, eager, exact))
    assert got.keys() == eager.keys() == exact.keys()
    ratios = {name: _error(got[name], exact[name]) / _error(eager[name], exact[name]) for name in exact}
    worst = sorted(ratios.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in worst)
    assert worst[0][1] <= 2, f"{what}: errors over those of eager torch: {listed}"


def _by_layer(gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A layer's weight and bias as one vector: alone, the gradient of the keys' bias is rounding around zero.

    The padding token's row is left out: Hugging Face's tables do not train it.
    """
    layers: dict[str, list[torch.Tensor]] = {}
    for name, gradient in sorted(gradients.items()):
        part = gradient[1:] if "word_embeddings" in name else gradient
        layers.setdefault(name.rpartition(".")[0], []).append(part.flatten())
    return {name: torch.cat(parts) for name, parts in layers.items()}


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return (found.double() - exact).norm().item()
