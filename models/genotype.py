"""Genotypes: an expression, a number of stacked layers and a share of the width for each block, as EfficientBERT's
program writes them: `tanh(linear4_2(gelu(linear4_2(x,wb1)),wb2))` is four layers of half the width.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from bertkernels.errors import InputError
from bertkernels.nn.expression_ffn import PLAIN_FFN
from bertkernels.nn.expressions import (
    MOST,
    ExpressionError,
    Node,
    check_rules,
    original_text,
    output_width,
    parse_expression,
    random_expression,
)

from .configuration import EncoderConfig
from .cost import parameters
from .plan import BlockSpec, Plan, SublayerSpec

KIND = "expression_ffn"
FIT_SIZE = 768  # the teacher's width, to which the published models' `fit_dense` maps theirs in distillation

# the one that was released, for models of all sizes
RELEASED = (
    "tanh(linear4_2(gelu(linear4_2(x,wb1)),wb2))",
    "elu(linear2_1(gelu(linear2_1(x,wb1)),wb2))",
    "sigmoid(linear1_2(relu(linear1_2(x,wb1)),wb2))",
    "linear2_2(gelu(linear2_2(max(x,tanh(x)),wb1)),wb2)",
    "linear1_2(relu(mul(linear1_2(x,wb1),x)),wb2)",
    "leaky_relu(linear2_3(gelu(linear2_3(x,wb1)),wb2))",
)
SUPERNET = ("linear4_1(gelu(linear4_1(x,wb1)),wb2)",)

_NAMED = {"released": RELEASED, "supernet": SUPERNET}
Genotype = tuple[SublayerSpec, ...]  # an `expression_ffn` each


def parse_genotype(texts: Iterable[str], rules: bool = True) -> Genotype:
    """Expressions in either spelling, one a block or a run of blocks; names without S and R stand for one full layer.

    Args:
        rules: whether they must follow the rules of the search space.

    Raises:
        InputError: naming the expression by its number, the character and the rule.
    """
    genotype = []
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise InputError(f"genotype, {number}: an expression must be text, got {text!r}")
        try:
            (check_rules if rules else parse_expression)(text)
        except ExpressionError as error:
            raise InputError(f"genotype, {number}: {error}") from None
        genotype.append(SublayerSpec(KIND, {"expression": text}))
    if not genotype:
        raise InputError("a genotype needs at least one expression")
    return tuple(genotype)


def read_genotype(source: str, rules: bool = True) -> Genotype:
    """The genotype of this name, "released" or "supernet", or in a file: a JSON list or one expression a line.

    Raises:
        InputError: no such file, or as `parse_genotype`.
    """
    if source in _NAMED:
        return parse_genotype(_NAMED[source])
    path = Path(source)
    if not path.is_file():
        raise InputError(f"genotype {source!r} is neither {' nor '.join(_NAMED)} nor a file")
    text = path.read_text()
    if text.lstrip().startswith("["):
        try:
            texts = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path} is not a JSON list of expressions: {error}") from None
    else:
        texts = [line for line in text.splitlines() if line.strip()]
    try:
        return parse_genotype(texts, rules)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def genotype_plan(genotype: Genotype, blocks: int | None = None) -> str:
    """The plan of an encoder with attention and an FFN in each block.

    Args:
        blocks: None: one for each expression; else a multiple of that, and each stands for as many blocks in a row.

    Raises:
        InputError: not such a multiple.
    """
    blocks = len(genotype) if blocks is None else blocks
    if blocks % len(genotype):
        raise InputError(f"a genotype of {len(genotype)} expressions does not fit {blocks} blocks: no multiple")
    repeat = blocks // len(genotype)
    attention = SublayerSpec("attention")
    return str(Plan(tuple(BlockSpec((attention, gene)) for gene in genotype for _ in range(repeat))))


def random_genotype(generator: Random, config: EncoderConfig) -> Genotype:
    """A random expression, number of layers and share of the width for each `expression_ffn` of its plan.

    Those that follow the rules and fit the configuration's sizes; whether the whole fits a budget is not looked at.
    """
    return tuple(_random_gene(generator, config) for _ in genotype_of(config))


def _random_gene(generator: Random, config: EncoderConfig) -> SublayerSpec:
    stack, ratio = (generator.randint(1, MOST) for _ in range(2))
    hidden, inner = config.hidden_size, max(1, config.intermediate_size // ratio)

    def fits(tree: Node) -> bool:
        try:
            return output_width(tree, hidden, inner, config.expression_widths) == hidden
        except ExpressionError:
            return False

    expression = random_expression(generator, fits)
    return SublayerSpec(KIND, {"expression": str(expression), "ratio": ratio, "stack": stack})


def genotype_of(config: EncoderConfig) -> Genotype:
    """All `expression_ffn` of its plan, in order; InputError where there is none."""
    sublayers = [sublayer for block in config.parsed_plan.blocks for sublayer in block.sublayers]
    found = tuple(sublayer for sublayer in sublayers if sublayer.kind == KIND)
    if not found:
        raise InputError(f'the plan "{config.plan}" has no {KIND}')
    return found


def genotype_texts(genotype: Sequence[SublayerSpec]) -> list[str]:
    """As EfficientBERT's program writes them; what `parse_genotype` reads."""
    defaults = {"expression": PLAIN_FFN, "ratio": 1, "stack": 1}
    texts = []
    for gene in genotype:
        options = defaults | dict(gene.options)
        texts.append(original_text(parse_expression(options["expression"]), (options["stack"], options["ratio"])))
    return texts


def published_size(config: EncoderConfig, fit_size: int = FIT_SIZE) -> int:
    """Parameters as EfficientBERT's authors count a model's: with the projection to the teacher's width, `fit_dense`,
    which only distillation uses, and without pooler and classifier."""
    plain = EncoderConfig(**config.to_dict() | {"pooler": False})
    return parameters(plain) + (config.hidden_size + 1) * fit_size


def check_budget(config: EncoderConfig, least: float, most: float, fit_size: int = FIT_SIZE) -> None:
    """Raises InputError where `published_size` is not within the limits, in millions; the published ones are 15 and 16.

    Also where the genotype does not fit the sizes at all.
    """
    millions = published_size(config, fit_size) / 1e6
    if not least <= millions <= most:
        raise InputError(
            f"the genotype makes a model of {millions:.3f} million parameters, the budget is {least:g} to {most:g}: "
            + "; ".join(genotype_texts(genotype_of(config)))
        )
