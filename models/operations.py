"""What a piece of a model does to one token, counted by what it is, and the two ways to add that up.

Source of `ELECTRA`: the FLOPs that Clark et al. 2020 (arXiv 2003.10555) report and their program for them, by which
ConvBERT's authors counted too.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Operations:
    """Numbers of operations of a forward pass in training.

    Attributes:
        products: multiplications, each with the addition of its result to a sum.
        elements: single operations: added biases and residuals, products of elements, scaling.
        activations, softmaxes, norms: elements that go through one. dropouts: that may be dropped.
    """

    products: int = 0
    elements: int = 0
    activations: int = 0
    softmaxes: int = 0
    dropouts: int = 0
    norms: int = 0

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Operations:
        return Operations(*(times * number for number in astuple(self)))


@dataclass(frozen=True)
class Counting:
    """What counts how much.

    Attributes:
        product … norm: of one of `Operations`' fields each.
        lookups: whether a row of an embedding table counts as the product of a one-hot vector with the table.
        backward: forward passes that a backward pass counts as.
    """

    name: str
    product: int
    element: int
    activation: int
    softmax: int
    dropout: int
    norm: int
    lookups: bool
    backward: int

    def __call__(self, operations: Operations) -> int:
        weights = (self.product, self.element, self.activation, self.softmax, self.dropout, self.norm)
        return sum(weight * number for weight, number in zip(weights, astuple(operations), strict=True))


# what torch.utils.flop_counter counts; each product has two gradients, each a product of as many operations
PRODUCTS = Counting("products", 2, 0, 0, 0, 0, 0, lookups=False, backward=2)
ELECTRA = Counting("electra", 2, 1, 8, 5, 4, 5, lookups=True, backward=1)
COUNTINGS = {counting.name: counting for counting in (PRODUCTS, ELECTRA)}


def linear(inputs: int, outputs: int, groups: int = 1) -> Operations:
    """A dense layer with bias, or one of `groups` blocks."""
    return Operations(products=inputs * outputs // groups, elements=outputs)
