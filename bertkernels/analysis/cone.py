"""How narrow a cone vectors lie in, and what of a cosine is more than that."""

import torch


class Cone:
    """The mean cosine of all pairs of different vectors in a stream: the paper's cone size, in time linear in N.

    With u = v / ‖v‖ it is (‖Σu‖² − Σ‖u‖²) / (N·(N−1)): 0 of directions that cancel out, 1 where all are the same.
    A zero vector has no direction; its cosine counts as 0. Sums are fp64.
    Source: Zhao et al. 2021 (arXiv 2101.04547) define the mean over pairs; the sum of normalised vectors is ours.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, x: torch.Tensor) -> None:
        """x: [N, D]"""
        directions = normalized(x.detach().double())
        self.count += len(x)
        self._sum = directions.sum(0) + self._sum.to(x.device)
        self._squares = directions.square().sum() + self._squares.to(x.device)

    @property
    def size(self) -> float:
        """NaN of fewer than two vectors."""
        if self.count < 2:
            return float("nan")
        pairs = self._sum.square().sum() - self._squares
        return (pairs / (self.count * (self.count - 1))).item()


def normalized(x: torch.Tensor) -> torch.Tensor:
    """x [..., D] with rows of length 1; rows of zeros stay."""
    lengths = x.norm(dim=-1, keepdim=True)
    return x / lengths.where(lengths > 0, 1)


def normalized_linearity(cosine: float, cone_size: float) -> float:
    """(cosine − cone size) / (1 − cone size): 1 of a linear map, 0 where a probe says no more than the cone does.

    The paper corrects its score by the cone size of the targets; the formula in which it does so is not in its
    abstract or code, so this one is ours.
    NaN where all targets have one direction.
    """
    return (cosine - cone_size) / (1 - cone_size) if cone_size < 1 else float("nan")
