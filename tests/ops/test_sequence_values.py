"""What becomes of contents of lengths and cu_seqlens that no sequences have, on a GPU where nobody reads them first."""

import importlib

import pytest
import torch

from bertkernels import ops
from bertkernels.ops import checks, torch_attention
from tests.ops.attention_errors import int32

BAD = [
    ({"lengths": int32([1, 6])}, "light_conv: lengths must lie in 0..T = 0..5, got 1..6"),
    ({"lengths": int32([-1, 5])}, "light_conv: lengths must lie in 0..T = 0..5, got -1..5"),
    ({"cu_seqlens": int32([1, 5])}, "light_conv: cu_seqlens must run from 0 to the number of tokens 5, got 1..5"),
    ({"cu_seqlens": int32([0, 6])}, "light_conv: cu_seqlens must run from 0 to the number of tokens 5, got 0..6"),
    ({"cu_seqlens": int32([0, 4, 2, 5])}, "light_conv: cu_seqlens must not decrease"),
]


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU, and tells when it is read."""

    device = property(lambda self: torch.device("cuda"))

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if not checks._READ_FROM_GPU and function is not OnGpu.device.fget and "numel" not in str(function):
            raise AssertionError(f"{function} waits for the GPU")
        return super().__torch_function__(function, types, args, kwargs)


@pytest.mark.parametrize("sequences, message", BAD)
def test_contents_on_a_gpu_are_read_only_if_asked_for(sequences, message, monkeypatch):
    given = {"lengths": None, "cu_seqlens": None, **{name: x.as_subclass(OnGpu) for name, x in sequences.items()}}
    checks.sequence_values("light_conv", 5, **given)
    monkeypatch.setattr(checks, "_READ_FROM_GPU", True)
    with pytest.raises(ValueError, match=message):
        checks.sequence_values("light_conv", 5, **given)


@pytest.mark.parametrize("value, wanted", [("1", True), ("0", False)])
def test_they_are_asked_for_by_an_environment_variable(value, wanted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("BERTKERNELS_CHECK_SEQUENCES", value)
        assert importlib.reload(checks)._READ_FROM_GPU is wanted
    importlib.reload(checks)


@pytest.mark.parametrize("max_seqlen", [None, 5])
def test_torchs_packed_kernels_get_offsets_within_the_tokens(max_seqlen, monkeypatch):
    def kernel(query, key, value, cu_seqlens, longest, dropout_p, scale):
        assert cu_seqlens.dtype == torch.int32 and cu_seqlens.is_contiguous()
        assert cu_seqlens.tolist() == [0, 5, 0, 4, 5] and longest == 5
        return query

    monkeypatch.setattr(torch_attention, "_packed_kernel", lambda query: kernel)
    monkeypatch.setattr(checks, "_readable", lambda vector: False)
    query, key, value = torch.randn(3, 5, 2, 8)
    gaps = int32([[-7, 0], [99, 0], [-(2**31), 0], [4, 0], [2**31 - 1, 0]])[:, 0]
    out = ops.attention(query, key, value, cu_seqlens=gaps, max_seqlen=max_seqlen, impl="torch")
    assert out is query or torch.equal(out, query)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("impl", ["cuda", "triton"])
@pytest.mark.parametrize("sequences, message", BAD)
def test_on_a_gpu(impl, sequences, message, monkeypatch):
    possible, reason = ops.can_run("light_conv", impl, "cuda")
    if not possible:
        pytest.skip(reason)
    given = {name: x.cuda() for name, x in sequences.items()}
    shape = (5, 2, 16) if "cu_seqlens" in given else (2, 5, 2, 16)
    values, logits = torch.randn(shape, device="cuda"), torch.randn(*shape[:-1], 9, device="cuda")
    ops.light_conv(values, logits, impl=impl, **given)
    torch.cuda.synchronize()
    monkeypatch.setattr(checks, "_READ_FROM_GPU", True)
    with pytest.raises(ValueError, match=message):
        ops.light_conv(values, logits, impl=impl, **given)
