"""An op under torch.compile and under autocast."""

from collections.abc import Callable, Sequence

import torch

from tests.ops.gradients import leaves


def assert_compiles_whole_without_recompiling(function: Callable, cases: Sequence[Sequence[torch.Tensor]]) -> None:
    """One graph, compiled for the first case, gives the function's gradients in every case.

    Sizes that are to vary must differ from all others of their case: equal ones are taken for the same symbol.
    """

    def loss(*inputs):
        return function(*inputs).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, tensors in enumerate(cases):
        gradients = []
        for run in (loss, compiled):
            inputs = leaves(*tensors)
            with torch.compiler.set_stance("fail_on_recompile" if i and run is compiled else "default"):
                run(*inputs).backward()
            gradients.append([tensor.grad for tensor in inputs])
        for want, got in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)


def assert_casts_under_autocast(function: Callable, inputs: Sequence[torch.Tensor], grad: torch.Tensor) -> None:
    """fp32 and bf16 mixed, as autocast leaves them, are taken as bf16; gradients come in each input's own dtype."""
    inputs = leaves(*inputs)
    with torch.autocast(grad.device.type, torch.bfloat16):
        out = function(*inputs)
    assert out.dtype == torch.bfloat16, f"autocast to bf16 gives {out.dtype}"
    assert torch.equal(out, function(*(tensor.bfloat16() for tensor in inputs))), "not the result in bf16"
    out.backward(grad.bfloat16())
    for i, tensor in enumerate(inputs):
        assert tensor.grad.dtype == tensor.dtype, f"gradient {i} is {tensor.grad.dtype}, its input {tensor.dtype}"
