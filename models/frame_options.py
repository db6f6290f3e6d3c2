"""What every kind of sub-layer takes in a plan that is no part of its function: how it stands in its frame."""

from collections.abc import Mapping

from torch import nn

from bertkernels.nn import ACTIVATIONS, RESIDUALS, PostNorm, VariedFrame

from .operations import Operations, linear

# Those of an encoder that varies nothing, a plain residual connection and a norm over the sum, are not said.
FRAME_OPTIONS: dict[str, tuple[str, ...]] = {
    "norm": ("output",),
    "output_activation": tuple(ACTIVATIONS),
    "residual": tuple(name for name in RESIDUALS if name != "plain"),
}
INNER = "inner"  # a norm inside of the function, in place of the frame's
_SIGMOID = 4  # operations


def build_frame(
    function: nn.Module, options: Mapping[str, str], hidden_size: int, dropout: float = 0.0, eps: float = 1e-12
) -> PostNorm | VariedFrame:
    """The frame around a sub-layer: without options `PostNorm`, which runs as one op where there is one."""
    if not options:
        return PostNorm(function, hidden_size, dropout, eps)
    return VariedFrame(
        function,
        hidden_size,
        dropout,
        eps,
        residual=options.get("residual", "plain"),
        norm={None: "sum", INNER: "none"}.get(options.get("norm"), options.get("norm")),
        activation=options.get("output_activation"),
    )


def frame_operations(options: Mapping[str, str], hidden_size: int) -> Operations:
    """What a frame does to one token, besides its function."""
    total = Operations(dropouts=hidden_size)
    if options.get("norm") != INNER:
        total += Operations(norms=hidden_size)
    if "output_activation" in options:
        total += Operations(activations=hidden_size)
    residual = options.get("residual", "plain")
    if residual != "none":
        total += Operations(elements=hidden_size)
    if residual in ("gated", "weighted", "scaled"):
        total += Operations(elements=hidden_size)
    if residual in ("gated", "weighted"):
        total += linear(hidden_size, 1)
    if residual == "gated":
        total += Operations(elements=_SIGMOID)
    return total
