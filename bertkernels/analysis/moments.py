"""Sums over a stream of pairs (x, y) from which least squares and CKA follow, in fp64."""

import torch


class Moments:
    """Count, means and centred second moments of everything that was added.

    Batches are merged by their own means (Chan, Golub and LeVeque, 1979), so that features with a mean far from zero,
    which hidden states have, keep their digits. However the stream is cut, the sums differ by rounding in fp64 alone.

    Attributes:
        count: N, the number of rows.
        mean_x, mean_y: [Dx], [Dy].
        xx, xy: Σ (x−x̄)ᵀ(x−x̄) [Dx, Dx] and Σ (x−x̄)ᵀ(y−ȳ) [Dx, Dy].
        y_squares: Σ (y−ȳ)² of each feature, [Dy].
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean_x = self.mean_y = self.xx = self.xy = self.y_squares = torch.zeros(())

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """x [N, Dx], y [N, Dy], of any floating dtype; sums are kept on their device. Raises ValueError for others."""
        if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
            raise ValueError(f"expected x [N, Dx] and y [N, Dy], got {list(x.shape)} and {list(y.shape)}")
        if self.count and (x.shape[1], y.shape[1]) != tuple(self.xy.shape):
            raise ValueError(f"expected the widths {list(self.xy.shape)}, got {x.shape[1]} and {y.shape[1]}")
        if not len(x):
            return
        batch = Moments()
        x, y = x.detach().double(), y.detach().double()
        batch.count, batch.mean_x, batch.mean_y = len(x), x.mean(0), y.mean(0)
        x, y = x - batch.mean_x, y - batch.mean_y
        batch.xx, batch.xy, batch.y_squares = x.T @ x, x.T @ y, y.square().sum(0)
        self.merge(batch)

    def merge(self, other: "Moments") -> None:
        """Adds what `other` has seen."""
        if not other.count:
            return
        if not self.count:
            self.__dict__.update(other.__dict__)
            return
        count = self.count + other.count
        weight = self.count * other.count / count
        x, y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        self.xx = self.xx + other.xx + weight * torch.outer(x, x)
        self.xy = self.xy + other.xy + weight * torch.outer(x, y)
        self.y_squares = self.y_squares + other.y_squares + weight * y.square()
        self.mean_x = self.mean_x + x * (other.count / count)
        self.mean_y = self.mean_y + y * (other.count / count)
        self.count = count
