"""`expression_block`: feed-forward sub-layers that compute an expression, whole and in a row, for inference."""

from collections.abc import Callable, Sequence

import torch

from . import blas, checks, dispatch, extension, row_programs
from .linear import linear_reference
from .residual_norm import residual_norm_reference

Tensors = Sequence[torch.Tensor]


def expression_block(
    x: torch.Tensor,
    weights: Tensors,
    biases: Tensors,
    norms: Tensors,
    *,
    before: str = "x",
    between: str = "y gelu_tanh",
    after: str = "y",
    widths: str = "crop",
    eps: float = 1e-12,
    impl: str | None = None,
) -> torch.Tensor:
    """x ← LayerNorm(x + after(down(between(up(before(x)))))), once or several times, each time with other weights.

    EfficientBERT (Dong et al. 2021) finds such sub-layers, and stacks them. On the CPU each thread takes some hundred
    tokens through all of them. It computes no gradients: training calls `feed_forward_block` where that fits, and else
    `linear`, `bias_activation` and `residual_norm`.

    Args:
        x: […, C] with a contiguous last dimension.
        weights: of up [F, C] and down [C, F], then those of the next sub-layer's, and so on; of x's dtype and device,
            last dimension contiguous.
        biases: [F] and [C], likewise. norms: each norm's weight and bias, both [C], likewise.
        before, between, after: programs, see `row_programs`; all may read x. `before` has no "y"; it yields C channels,
            `between` F and `after` C.
        widths: what programs do with rows of different widths: "crop" leaves out the wider one's further channels;
            "pad" fills the narrower one up with what changes nothing, "pad_published" for max with -1e-10.
        eps: of the LayerNorms.
        impl: "cpu" (float32 only, with MKL) or "reference"; None takes the best that can run.

    Returns:
        […, C], contiguous, of x's dtype. Sums are in fp32 (fp64 for fp64).

    Raises:
        ValueError, TypeError: a program that cannot be run, or shapes, dtypes, devices or strides that do not fit.
        RuntimeError: gradients would be wanted, or `impl` asks for an implementation that cannot run here.
    """
    op = "expression_block"
    checks.tensor(op, "x", x, checks.ANY_RANK, "[…, C]")
    hidden, channels = _check_layers(op, x, weights, biases, norms), x.shape[-1]
    _check_programs(op, channels, hidden, before, between, after, widths)
    checks.no_gradients(op, x, *weights, *biases, *norms)
    tensors = (x, list(weights), list(biases), list(norms))
    return expression_block_op(*tensors, before, between, after, widths, eps, dispatch.requested(impl))


def bind(
    weights: Tensors, biases: Tensors, norms: Tensors, before: str, between: str, after: str, widths: str, eps: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """`expression_block` with its parameters and programs bound to it: x → out, both as there.

    For plain inference in fp32 on the CPU, where implementation "cpu" runs. Parameters are contiguous, and must stay
    where they are as long as the function is called: it keeps their addresses.
    """
    op, channels = "expression_block", norms[0].shape[-1]
    hidden = _check_layers(op, norms[0], weights, biases, norms)
    _check_programs(op, channels, hidden, before, between, after, widths)
    compiled = _compiled(weights, biases, norms, before, between, after, widths, eps)

    def call(x):
        checks.rows(op, x, channels)
        return _launch(x, compiled) if x.numel() else x.new_empty(x.shape)

    return call


def _check_programs(op: str, channels: int, hidden: int, before: str, between: str, after: str, widths: str) -> None:
    for name, program, below, yields in (
        ("before", before, None, channels),
        ("between", between, hidden, hidden),
        ("after", after, channels, channels),
    ):
        width = row_programs.output_width(op, name, program, channels, below, widths)
        if width != yields:
            raise ValueError(f"{op}: {name} must yield {yields} channels, and {program!r} yields {width}")


def _check_layers(op: str, x: torch.Tensor, weights: Tensors, biases: Tensors, norms: Tensors) -> int:
    """How many channels there are between up and down."""
    if not len(weights) == len(biases) == len(norms) or len(weights) % 2 or not weights:
        counts = f"{len(weights)}, {len(biases)} and {len(norms)}"
        raise ValueError(f"{op}: weights, biases and norms must be two of each a sub-layer, got {counts}")
    checks.tensor(op, "up's weight", weights[0], 2, "[F, C]")
    channels, hidden = x.shape[-1], weights[0].shape[0]
    for i in range(0, len(weights), 2):
        for name, tensor, shape in (
            ("up's weight", weights[i], (hidden, channels)),
            ("down's weight", weights[i + 1], (channels, hidden)),
            ("up's bias", biases[i], (hidden,)),
            ("down's bias", biases[i + 1], (channels,)),
            ("the norm's weight", norms[i], (channels,)),
            ("the norm's bias", norms[i + 1], (channels,)),
        ):
            checks.companion(op, name, tensor, shape, "that of its layer", "x", x)
    return hidden


def expression_block_reference(
    x: torch.Tensor,
    weights: Tensors,
    biases: Tensors,
    norms: Tensors,
    before: str = "x",
    between: str = "y gelu_tanh",
    after: str = "y",
    widths: str = "crop",
    eps: float = 1e-12,
) -> torch.Tensor:
    """The specification of `expression_block`, in plain torch operations; in fp32 or fp64 throughout."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    for i in range(0, len(weights), 2):
        up, down, up_bias, down_bias = (each.to(wide.dtype) for each in (*weights[i : i + 2], *biases[i : i + 2]))
        hidden = linear_reference(row_programs.run(before, wide, None, widths), up, up_bias)
        result = linear_reference(row_programs.run(between, wide, hidden, widths), down, down_bias)
        result = row_programs.run(after, wide, result, widths)
        wide = residual_norm_reference(result, wide, norms[i].to(wide.dtype), norms[i + 1].to(wide.dtype), eps=eps)
    return wide.to(x.dtype)


# -- the registered op -------------------------------------------------------------------------------------------------


def _cpu(x, weights, biases, norms, before, between, after, widths, eps):
    weights = [blas.rows(weight) for weight in weights]
    return _launch(x, _compiled(weights, biases, norms, before, between, after, widths, eps))


def _compiled(weights, biases, norms, before, between, after, widths, eps):
    """What compiled code takes of parameters and programs: F, the programs, their widths' rule, the layers with their
    norms, and BLAS."""
    programs = (
        () if before == "x" else row_programs.steps(before),
        row_programs.steps(between),
        row_programs.steps(after),
    )
    layers = [blas.layer(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    sublayers = [
        (*layers[i : i + 2], (norms[i].data_ptr(), norms[i + 1].data_ptr(), eps)) for i in range(0, len(layers), 2)
    ]
    return weights[0].shape[0], programs, row_programs.WIDTHS[widths], sublayers, blas.sgemm()[0]


def _launch(x, compiled):
    hidden, programs, widths, sublayers, gemm = compiled
    out, rows = extension.empty_like(x), blas.matrix(x)  # [M, C]
    channels = x.shape[-1]
    extension.C.expression_block_forward_cpu(
        (x.numel() // channels, channels, hidden),
        programs,
        widths,
        extension.rows_operand(rows),
        sublayers,
        extension.rows_operand(out),
        gemm,
        torch.get_num_threads(),
    )
    return out


launch = dispatch.Launchers(
    "expression_block", {"cpu": _cpu, "reference": expression_block_reference}, needs={"cpu": lambda: blas.sgemm()[1]}
)

expression_block_op = blas.register(
    launch,
    "(Tensor x, Tensor[] weights, Tensor[] biases, Tensor[] norms, str before, str between, str after, str widths, "
    "float eps, str impl) -> Tensor",
)
