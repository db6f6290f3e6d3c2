"""Which expressions compute the same: by their canonical form, and by what they make of fixed random numbers."""

import hashlib
from functools import lru_cache

import torch

from bertkernels.nn.expression_ffn import ExpressionFeedForward
from bertkernels.nn.expressions import canonical, parse_expression

_TOKENS = 8
_DIGITS = 6  # of what is compared: sums in another order differ far behind that
_SEED = 0


class Behaviour:
    """Digests of expressions that are the same where they compute the same function, on every machine.

    Weights and inputs are drawn once from a fixed seed, in float64; expressions get the first channels between the
    layers, as students of a supernet do. Inputs go far enough from zero for activations to differ.

    Args:
        hidden_size: C. intermediate_size: F. widths: one of `expressions.WIDTH_RULES`.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, widths: str) -> None:
        generator = torch.Generator().manual_seed(_SEED)
        self._module = ExpressionFeedForward(hidden_size, intermediate_size, widths=widths).double()
        with torch.no_grad():
            for parameter in self._module.parameters():
                spread = parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * spread)
        self._x = 2 * torch.randn(_TOKENS, hidden_size, generator=generator, dtype=torch.float64)  # [T, C]
        self.digest = lru_cache(100_000)(self._digest)

    @torch.no_grad()
    def _digest(self, expression: str, ratio: int) -> str:
        """Sixteen hexadecimal digits. Raises ExpressionError where widths do not fit."""
        text = str(canonical(parse_expression(expression)))  # so that sums are in one order
        self._module.choose(text, max(1, self._module.up.out_features // ratio))
        y = torch.round(self._module(self._x), decimals=_DIGITS) + 0.0  # [T, C]; -0 is 0
        return hashlib.sha256(y.numpy().tobytes()).hexdigest()[:16]
