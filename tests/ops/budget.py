"""How far an op may be from the result in fp64."""

from collections.abc import Sequence

import torch


def assert_within_budget(
    names: Sequence[str],
    got: Sequence[torch.Tensor],
    want: Sequence[torch.Tensor],
    eager: Sequence[torch.Tensor],
    what: str,
    *,
    roundings: float = 4,
    of: Sequence[torch.Tensor] | None = None,
) -> None:
    """At most twice the error of eager torch in the same dtype, plus a few roundings of the largest entry.

    In fp64 `want` is rounded as much as `got` is, and eager torch often in the very same way, which makes its error
    nothing. And where a sum cancels, its largest entry does not tell how much was rounded on the way; what bounds that,
    whatever the order of adding up, is the sum of the absolute values of its terms (Higham, Accuracy and Stability of
    Numerical Algorithms, §4.2): `of`. Where a function is linear in each input, it is the function of absolute values.
    Either side stays within an eps or two of it.

    Args:
        names: of the results, for the message; there may be more names than results.
        got, want, eager: the op's results, those in fp64, and those of eager torch in the op's dtype.
        what: the case, for the message.
        roundings: how many eps of the largest entry are allowed on top.
        of: in place of `want`, what to take the largest entry of.
    """
    results = zip(got, want, eager, want if of is None else of, strict=True)
    for name, (g, w, e, scale) in zip(names, results, strict=False):
        assert g.shape == w.shape, f"{what}: {name} is {list(g.shape)}, expected {list(w.shape)}"
        floor = roundings * torch.finfo(g.dtype).eps * scale.abs().max()
        budget = 2 * (e.double() - w).abs().max() + floor
        error = (g.double() - w).abs().max()
        assert budget.isfinite(), f"{what}: {name} has no budget, eager torch overflows"
        assert error <= budget, f"{what}: {name} is off by {error:.3g}, budget {budget:.3g}"
