"""The shapes of a supernet's students that keep within a budget: counted, drawn, and the nearest to one that does not.

A shape is how many feed-forward layers a block stacks, S, and what share 1/R of the width they have.
"""

import math
from collections.abc import Sequence

import numpy as np

from bertkernels.errors import InputError
from bertkernels.nn.expression_ffn import PLAIN_FFN
from bertkernels.nn.expressions import MOST
from bertkernels.nn.expressions.tree import Shape

from .configuration import EncoderConfig
from .cost import sublayer_cost
from .genotype import FIT_SIZE, KIND, Genotype, genotype_of, genotype_texts, published_size
from .kinds import find_kind
from .plan import SublayerSpec

ALL_SHAPES: tuple[Shape, ...] = tuple((stack, ratio) for stack in range(1, MOST + 1) for ratio in range(1, MOST + 1))


class ShapeBudget:
    """All choices of a shape for each block of a supernet whose student has so many parameters.

    What a student has is a sum over its blocks, so sums are counted and not students.

    Args:
        config: of the supernet, whose expressions the students keep. Shapes are those that it has weights for and that
            its expressions can be computed with.
        least, most: parameters as `published_size` counts them.
        fit_size: width that the counted projection leads to; 0: none is counted.

    Raises:
        InputError: there is no such student; it says what the nearest has.
    """

    def __init__(self, config: EncoderConfig, least: float, most: float, fit_size: int = FIT_SIZE) -> None:
        self.least, self.most = least, most
        self._genes = genotype_of(config)
        self._sizes = [_shape_sizes(config, gene) for gene in self._genes]  # parameters by shape, a block each
        whole = sum(sublayer_cost(config, gene, tokens=1).parameters for gene in self._genes)
        self._rest = published_size(config, fit_size) - whole
        self._sums, self._ways = _count(self._sizes)
        self.size = self._within(0, 0)
        if not self.size:
            raise InputError(
                f"no student has {_range(least, most)} parameters: the nearest has {self.nearest_size():,}, "
                f"as {'; '.join(self.texts(self.nearest()))}"
            )

    def parameters(self, shapes: Sequence[Shape]) -> int:
        """Of the student with these shapes. Raises InputError for one that a block cannot have."""
        total = self._rest
        for number, (sizes, shape) in enumerate(zip(self._sizes, shapes, strict=True), 1):
            if shape not in sizes:
                raise InputError(f"block {number} of the supernet cannot be stacked and divided as {_name(shape)}")
            total += sizes[shape]
        return total

    def allows(self, shapes: Sequence[Shape]) -> bool:
        """Whether that student keeps within the budget."""
        return self.least <= self.parameters(shapes) <= self.most

    def check(self, shapes: Sequence[Shape]) -> None:
        """Raises InputError for a student that does not, with the nearest that does."""
        size = self.parameters(shapes)
        if not self.least <= size <= self.most:
            nearest = self.nearest_size(size)
            raise InputError(
                f"the genotype {'; '.join(self.texts(shapes))} makes a model of {size:,} parameters, the budget is "
                f"{_range(self.least, self.most)}: the nearest within it has {nearest:,}"
            )

    def random(self, rng: np.random.Generator) -> tuple[Shape, ...]:
        """Shapes within the budget, any as likely as another."""
        shapes, spent = [], 0
        for block, sizes in enumerate(self._sizes, 1):
            ways = np.array([self._within(block, spent + size) for size in sizes.values()], dtype=np.float64)
            shape = list(sizes)[rng.choice(len(ways), p=ways / ways.sum())]
            shapes.append(shape)
            spent += sizes[shape]
        return tuple(shapes)

    def nearest_size(self, size: float | None = None) -> int:
        """The parameters, of those within the budget, that are nearest to so many; of all, to the budget itself."""
        totals = self._rest + self._sums[0]
        if size is not None:
            totals = totals[(totals >= self.least) & (totals <= self.most)]
            return int(totals[np.abs(totals - size).argmin()])
        return int(totals[np.maximum(self.least - totals, totals - self.most).argmin()])

    def nearest(self) -> tuple[Shape, ...]:
        """The shapes of a student of `nearest_size()`."""
        shapes, left = [], self.nearest_size() - self._rest
        for block, sizes in enumerate(self._sizes, 1):
            shape = next(shape for shape, size in sizes.items() if left - size in self._sums[block])
            shapes.append(shape)
            left -= sizes[shape]
        return tuple(shapes)

    def genotype(self, shapes: Sequence[Shape]) -> Genotype:
        """The supernet's expressions with these shapes."""
        return tuple(_gene(gene, shape) for gene, shape in zip(self._genes, shapes, strict=True))

    def texts(self, shapes: Sequence[Shape]) -> list[str]:
        """The same as text."""
        return genotype_texts(self.genotype(shapes))

    def shapes_of(self, block: int) -> tuple[Shape, ...]:
        """Those that a block, counted from 0, can have."""
        return tuple(self._sizes[block])

    def _within(self, block: int, spent: int) -> float:
        """Ways to give the blocks from `block` on their shapes where those before have so many parameters."""
        sums, ways = self._sums[block], self._ways[block]
        # whole numbers: for others, numpy makes another array of all sums each time
        low = np.searchsorted(sums, math.ceil(self.least) - self._rest - spent, side="left")
        high = np.searchsorted(sums, math.floor(self.most) - self._rest - spent, side="right")
        return float(ways[high] - ways[low]) if high > low else 0.0


def _shape_sizes(config: EncoderConfig, gene: SublayerSpec) -> dict[Shape, int]:
    channels = find_kind(KIND).arguments(config, **gene.function_options)["intermediate_size"]
    found = {}
    for shape in ALL_SHAPES:
        sliced = _gene(gene, shape)
        try:
            narrow = find_kind(KIND).arguments(config, **sliced.function_options)["intermediate_size"]
        except InputError:  # widths that do not fit
            continue
        if shape[0] <= gene.stack and narrow <= channels:
            found[shape] = sublayer_cost(config, sliced, tokens=1).parameters
    return found


def _gene(gene: SublayerSpec, shape: Shape) -> SublayerSpec:
    stack, ratio = shape
    expression = dict(gene.options).get("expression", PLAIN_FFN)
    return SublayerSpec(KIND, {"expression": expression, "stack": stack, "ratio": ratio})


def _count(sizes: list[dict[Shape, int]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For the blocks from each on: what they can have together, ascending, and in how many ways less than that: float64
    with one more entry, the number of all ways."""
    sums, ways = [np.zeros(1, dtype=np.int64)], [np.ones(1)]
    for block in reversed(sizes):
        each = np.array(list(block.values()), dtype=np.int64)
        totals, place = np.unique(sums[0][:, None] + each, return_inverse=True)
        counts = np.bincount(place.ravel(), weights=np.repeat(ways[0], len(each)))
        sums.insert(0, totals)
        ways.insert(0, counts)
    return sums, [np.concatenate([[0.0], counts.cumsum()]) for counts in ways]


def _name(shape: Shape) -> str:
    return f"{shape[0]}_{shape[1]}"


def _range(least: float, most: float) -> str:
    return f"{least:,.0f} to {most:,.0f}"
