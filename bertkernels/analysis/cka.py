"""How alike two representations of the same tokens are, whatever rotation and scale lie between them."""

import itertools
from collections.abc import Mapping

import torch


class CKA:
    """Linear centred kernel alignment between all states of a stream, in fp64.

    ‖Xᵀ Y‖² / (‖Xᵀ X‖ · ‖Yᵀ Y‖) with centred X [N, Dx], Y [N, Dy] and Frobenius norms: 1 of states that are a rotation
    and scaling of each other. Estimates are biased upwards where N is not far above D.
    For each two states Dx·Dy sums are kept.
    Source: Kornblith et al. 2019 (arXiv 1905.00414).
    """

    def __init__(self) -> None:
        self.count = 0
        self._means: dict[str, torch.Tensor] = {}
        self._products: dict[tuple[str, str], torch.Tensor] = {}  # Σ (x−x̄)ᵀ(y−ȳ) [Dx, Dy]

    def add(self, states: Mapping[str, torch.Tensor]) -> None:
        """states: by name [N, D] of the same N tokens, with the same names each time. Raises ValueError for others."""
        sizes = {len(x) for x in states.values()}
        if len(sizes) != 1 or (self.count and states.keys() != self._means.keys()):
            raise ValueError(f"expected states of the same tokens by the same names, got {', '.join(states)}")
        (size,) = sizes
        if not size:
            return
        before, now = self.count, self.count + size
        states = {name: x.detach().double() for name, x in states.items()}
        means = {name: x.mean(0) for name, x in states.items()}
        centred = {name: x - means[name] for name, x in states.items()}
        moved = {name: mean - self._means.get(name, 0) for name, mean in means.items()}
        for pair in itertools.combinations_with_replacement(states, 2):
            one, other = pair
            product = centred[one].T @ centred[other]
            product += torch.outer(moved[one], moved[other]) * (before * size / now)
            self._products[pair] = product + self._products.get(pair, 0)
        self._means = {name: self._means.get(name, 0) + moved[name] * (size / now) for name in means}
        self.count = now

    def matrix(self) -> torch.Tensor:
        """fp64 [S, S] between the S states, in the order of their names when first added; NaN of constant ones."""
        names = list(self._means)
        matrix = torch.empty(len(names), len(names), dtype=torch.float64)
        alone = {name: self._products[name, name].norm() for name in names}
        for (row, one), (column, other) in itertools.combinations_with_replacement(enumerate(names), 2):
            alignment = self._products[one, other].square().sum() / (alone[one] * alone[other])
            matrix[row, column] = matrix[column, row] = alignment
        return matrix
