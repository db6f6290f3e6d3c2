"""The spaces of EfficientBERT's search: genotypes, of which a stage varies expressions, shapes S_R, or both."""

import math
from collections.abc import Sequence, Set
from random import Random

import numpy as np

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.genotype import KIND, Genotype, genotype_of, genotype_texts, parse_genotype
from bertkernels.models.inheritance import student_config
from bertkernels.models.plan import SublayerSpec
from bertkernels.models.shape_budget import ShapeBudget
from bertkernels.models.supernet import Path
from bertkernels.nn.expression_ffn import PLAIN_FFN
from bertkernels.nn.expressions import (
    ACTIVATIONS,
    COMBINATIONS,
    ExpressionError,
    Input,
    Linear,
    Node,
    mutate,
    nodes,
    output_width,
    parse_expression,
)
from bertkernels.nn.expressions.tree import Shape
from bertkernels.search.behaviour import Behaviour
from bertkernels.search.evaluation import Key

BOTH, EXPRESSIONS, SHAPES = STAGES = (1, 2, 3)
_LONGEST = 20  # nodes of an expression that features tell of
_REPAIRS = 50  # tries with so many blocks changed, before one more is
_CODES = {name: code for code, name in enumerate((*ACTIVATIONS, *COMBINATIONS), 1)}


class FfnSpace:
    """Genotypes within a budget, as text: `linear2_1(gelu(linear2_1(x,wb1)),wb2)` for each block.

    Two are the same candidate where their shapes are, and their expressions have the same canonical form or compute the
    same function.

    Args:
        config: of the supernet. stage: 1: expressions and shapes; 2: expressions; 3: shapes.
        given: where the search starts from: a genotype whose expressions (stage 2) are mutated and whose shapes stay.
            Stage 1 starts from plain feed-forward layers, stage 3 has the supernet's own expressions.
        least, most: parameters, as `published_size` counts them with a projection to `fit_size`.

    Raises:
        InputError: nothing keeps within the budget, or what is given does not; it says what the nearest has.
    """

    def __init__(
        self, config: EncoderConfig, stage: int, given: Genotype | None, least: float, most: float, fit_size: int
    ) -> None:
        self.config, self.stage = config, stage
        self.shapes = ShapeBudget(config, least, most, fit_size)
        self._behaviour = Behaviour(config.hidden_size, config.intermediate_size, config.expression_widths)
        own = genotype_of(config)
        self.given = None if given is None else tuple(genotype_texts(given))
        self._fixed_shapes: tuple[Shape, ...] | None = None
        self._starts: list[tuple[str, ...]] = [(PLAIN_FFN,) * len(own)]  # expressions to mutate, a row each
        if given is not None:
            student_config(config, given)  # whose blocks are as many
            self.shapes.check(shapes_of(given))
        if stage == EXPRESSIONS:
            if given is None:
                raise InputError("stage 2 changes the expressions of a --genotype: give the one that stage 1 found")
            self._fixed_shapes = shapes_of(given)
            self._starts.insert(0, expressions_of(given))
        elif stage == SHAPES:
            self._starts = [expressions_of(own)]
            if given is not None and expressions_of(given) != self._starts[0]:
                raise InputError(
                    "stage 3 changes the shapes of the supernet's own expressions, and those of --genotype are others"
                )
        self.size = self.shapes.size if stage == SHAPES else math.inf

    @property
    def starts(self) -> list[Path]:
        """What is evaluated first: what is given, and plain layers of the same or of equal shapes, if they fit."""
        found = [] if self.given is None else [self.given]
        if self.stage == EXPRESSIONS:
            found.append(self._path((PLAIN_FFN,) * len(self._fixed_shapes), self._fixed_shapes))
        elif self.stage == BOTH:
            plain = (self._path(self._starts[-1], (shape,) * self.blocks) for shape in self.shapes.shapes_of(0))
            found += [path for path in plain if self.allows(path)][:1]
        return list(dict.fromkeys(found))

    @property
    def blocks(self) -> int:
        """Of the genotypes."""
        return len(self._starts[0])

    def allows(self, path: Path) -> bool:
        """Whether it can be computed and keeps within the budget."""
        genotype = parse_genotype(path)
        fits = all(self._fits(expression, ratio) for expression, (_, ratio) in _parts(genotype))
        return fits and self.shapes.allows(shapes_of(genotype))

    def key(self, path: Path) -> str:
        """For each block its shape and what its expression computes."""
        return " ".join(
            f"{stack}_{ratio}_{self._behaviour.digest(expression, ratio)}"
            for expression, (stack, ratio) in _parts(parse_genotype(path))
        )

    def exhausted(self, taken: Set[Key]) -> bool:
        """Whether these are all; of expressions there is no end."""
        if self.size == math.inf:
            return False
        shapes = ([tuple(map(int, part.split("_")[:2])) for part in key.split()] for key in taken)
        return sum(self.shapes.allows(each) for each in shapes) >= self.size

    def random(self, rng: np.random.Generator) -> Path:
        """Shapes within the budget, all as likely; expressions are mutations of those that the stage starts from."""
        shapes = self._fixed_shapes or self.shapes.random(rng)
        if self.stage == SHAPES:
            return self._path(self._starts[0], shapes)
        rows = rng.integers(len(self._starts), size=len(shapes))
        starts = (self._starts[row][block] for block, row in enumerate(rows))
        return self._path([self._mutant(e, s, rng) for e, s in zip(starts, shapes, strict=True)], shapes)

    def mutation(self, path: Path, probability: float, rng: np.random.Generator) -> Path:
        """Each block has with this probability another expression or shape, as the stage allows."""
        genotype = parse_genotype(path)
        expressions, shapes = list(expressions_of(genotype)), list(shapes_of(genotype))
        for block in np.flatnonzero(rng.random(len(path)) < probability):
            if self._fixed_shapes is None and (self.stage == SHAPES or rng.random() < 0.5):
                shapes[block] = self._another_shape(block, shapes[block], rng)
                expressions[block] = self._fitting(expressions[block], shapes[block], rng)
            else:
                expressions[block] = self._mutant(expressions[block], shapes[block], rng)
        return self._path(expressions, shapes)

    def nearest(self, path: Path, rng: np.random.Generator) -> Path:
        """The path with other shapes in as few blocks as a few tries find."""
        genotype = parse_genotype(path)
        expressions, shapes = expressions_of(genotype), shapes_of(genotype)
        new = shapes
        for changed in range(1, self.blocks):
            if self.shapes.allows(new):
                break
            for _ in range(_REPAIRS):
                tried = list(shapes)
                for block in rng.choice(self.blocks, changed, replace=False):
                    tried[block] = self._another_shape(block, shapes[block], rng)
                if self.shapes.allows(tried):
                    new = tuple(tried)
                    break
        if not self.shapes.allows(new):
            new = self.shapes.random(rng)
        return self._path([self._fitting(e, s, rng) for e, s in zip(expressions, new, strict=True)], new)

    def features(self, path: Path) -> list[int]:
        """For each block S and R, and, where the stage varies them, an expression's nodes in the order of its text,
        twenty at most."""
        found: list[int] = []
        for expression, shape in _parts(parse_genotype(path)):
            found += shape
            if self.stage != SHAPES:
                codes = [_code(node) for node in nodes(parse_expression(expression))][:_LONGEST]
                found += codes + [-1] * (_LONGEST - len(codes))
        return found

    def _path(self, expressions: Sequence[str], shapes: Sequence[Shape]) -> Path:
        return tuple(genotype_texts([gene(e, s) for e, s in zip(expressions, shapes, strict=True)]))

    def _fits(self, expression: str | Node, ratio: int) -> bool:
        hidden, inner = self.config.hidden_size, max(1, self.config.intermediate_size // ratio)
        try:
            return output_width(expression, hidden, inner, self.config.expression_widths) == hidden
        except ExpressionError:
            return False

    def _mutant(self, expression: str, shape: Shape, rng: np.random.Generator) -> str:
        chance = Random(int(rng.integers(2**63)))
        return str(mutate(parse_expression(expression), chance, lambda tree: self._fits(tree, shape[1])))

    def _fitting(self, expression: str, shape: Shape, rng: np.random.Generator) -> str:
        """The expression, or one that fits the shape where it does not."""
        if self._fits(expression, shape[1]):
            return expression
        return self._mutant(PLAIN_FFN, shape, rng)

    def _another_shape(self, block: int, shape: Shape, rng: np.random.Generator) -> Shape:
        others = [other for other in self.shapes.shapes_of(block) if other != shape]
        return others[rng.integers(len(others))] if others else shape


def gene(expression: str, shape: Shape) -> SublayerSpec:
    """A block's part of a genotype."""
    return SublayerSpec(KIND, {"expression": expression, "stack": shape[0], "ratio": shape[1]})


def shapes_of(genotype: Genotype) -> tuple[Shape, ...]:
    """S and R of each block."""
    return tuple((dict(each.options).get("stack", 1), dict(each.options).get("ratio", 1)) for each in genotype)


def expressions_of(genotype: Genotype) -> tuple[str, ...]:
    """The expression of each block, with plain names."""
    return tuple(dict(each.options).get("expression", PLAIN_FFN) for each in genotype)


def _parts(genotype: Genotype) -> list[tuple[str, Shape]]:
    return list(zip(expressions_of(genotype), shapes_of(genotype), strict=True))


def _code(node: Node) -> int:
    if isinstance(node, Input):
        return 0
    return len(_CODES) + node.weight if isinstance(node, Linear) else _CODES[node.name]
