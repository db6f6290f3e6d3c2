"""Activations in eager torch, and what rounding makes of them."""

import math
from collections.abc import Callable, Sequence

import torch

from bertkernels.ops.bias_activation import ACTIVATIONS


def eager_activation(x: torch.Tensor, activation: str | None) -> torch.Tensor:
    return torch.nn.functional.gelu(x) if activation == "gelu" else ACTIVATIONS[activation][0](x)


def rounding(
    exact: Callable, inputs: Sequence[torch.Tensor | None], grad: torch.Tensor, activation: str | None
) -> tuple[torch.Tensor, ...]:
    """By how many eps rounding can change activation(linear function) and its gradients: the error budget's `of`.

    Sums count with the absolute values of their terms: they are the linear case of absolute values. Where activations
    bend, the argument counts with the root of the sum of its terms' squares, which is its size if nothing cancels.

    Args:
        exact: exact(*inputs, grad, activation): the output and its gradients in fp64, linear if activation is None.
    """

    def linear(change, grad):
        return exact(*(None if tensor is None else change(tensor.double()) for tensor in inputs), grad, None)

    argument = linear(torch.clone, grad)[0]
    spread = linear(torch.square, grad)[0].sqrt()
    slope = _derivative_rounding(activation, argument, spread)
    value, *gradients = linear(torch.abs, grad.abs() * slope)
    if activation in ("tanh", "sigmoid"):  # flat where the argument is large, so that what it is off by does not show
        value = exact(*inputs, grad, activation)[0].abs() + spread
    return value, *gradients


def _derivative_rounding(activation, x, spread):
    """Its own, an eps of its largest value or of what cancels in it, and what comes of x being off by `spread` eps."""
    _, from_argument = torch.autograd.functional.jvp(ACTIVATIONS[activation][1], x, spread)
    own = torch.full_like(x, 0.5 if activation == "sigmoid" else 1)  # s·(1 − s): where s is nearly one, half an eps
    if activation == "gelu_tanh":
        # (1 + t)/2 + (1 - t²)·f, t = tanh(u(x)), f = x/2·u'(x): until t becomes 1, t² is rounded by half an eps, and
        # f, 17 by then, makes that more.
        scale = math.sqrt(2 / math.pi)
        factor = x.abs() / 2 * scale * (1 + 3 * 0.044715 * x * x)
        unsaturated = torch.tanh(scale * (x + 0.044715 * x**3)).abs() < 1
        own += torch.where(unsaturated, factor / 2, 0)
    if activation == "swish":  # s·(1 + x·(1 − s)) of torch: 1 − s is rounded by half an eps, of which x makes more
        own += (x * torch.sigmoid(x)).abs() / 2
    return own + from_argument.abs()
