"""The same bits, whatever should not matter."""

from collections.abc import Callable, Sequence

import torch


def assert_same_bits(got: Sequence[torch.Tensor], want: Sequence[torch.Tensor]) -> None:
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.dtype == w.dtype and g.shape == w.shape, f"result {i}: {g.dtype} {g.shape}, not {w.dtype} {w.shape}"
        assert torch.equal(g, w), f"result {i} differs in {int((g != w).sum())} of {w.numel()} entries"


def assert_threads_do_not_matter(function: Callable[[], Sequence[torch.Tensor]]) -> None:
    """The same bits from call to call, on any number of threads."""
    want = function()
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same_bits(function(), want)
    finally:
        torch.set_num_threads(threads)
