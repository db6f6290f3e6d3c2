"""Parameters and floating-point operations of encoders, by their configurations alone: nothing is built or run."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from bertkernels.errors import InputError

from .configuration import EncoderConfig
from .electra import ElectraConfig, ElectraForPreTraining
from .frame_options import build_frame, frame_operations
from .kinds import KINDS, find_kind
from .operations import PRODUCTS, Counting, Operations, linear
from .plan import SublayerSpec

_PREDICTED = 80 / 512  # of a sequence's tokens: BERT predicts at most 80 of 512


@dataclass(frozen=True)
class Cost:
    """Of a part of an encoder: its parameters, and the operations of a forward pass over one sequence."""

    parameters: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


def parameters(config: EncoderConfig | ElectraConfig) -> int:
    """Trained numbers of an encoder (with its pooler, if it has one), or of a pair for pre-training with its heads."""
    if isinstance(config, ElectraConfig):
        with torch.device("meta"):
            return _count(ElectraForPreTraining(config))
    return sum(cost.parameters for cost in costs(config, tokens=1).values())


def forward_flops(config: EncoderConfig, tokens: int, counting: Counting = PRODUCTS) -> int:
    """Operations of one forward pass of the encoder over one sequence.

    Args:
        tokens: T, its length.
        counting: what is counted. `operations.PRODUCTS`: multiplications with their additions, as two; equals what
            torch's FLOP counter sees. `operations.ELECTRA`: also what is done to single elements, and table look-ups.

    Raises:
        InputError: the sequence is longer than max_position_embeddings.
    """
    return sum(cost.flops for cost in costs(config, tokens, counting).values())


def training_flops(
    config: EncoderConfig | ElectraConfig, tokens: int, sequences: int, counting: Counting = PRODUCTS
) -> int:
    """Operations of pre-training, forward and backward.

    With `operations.ELECTRA` these are the figures that ConvBERT's authors print, rounded: ConvBERT-small's 1.3e18 for
    a million steps of 128 sequences of 128 tokens.

    Args:
        config: a pair trains as ELECTRA does; an encoder alone as a masked language model.
        tokens: T, of every sequence; 80 of 512 are predicted.
        sequences: in all: steps times their sequences.
        counting: as `forward_flops`; a backward pass counts as one forward pass by ELECTRA's, as two by products.

    Raises:
        InputError: the sequences are longer than max_position_embeddings.
    """
    return (1 + counting.backward) * sequences * _pretraining_pass(config, tokens, counting)


def costs(config: EncoderConfig, tokens: int, counting: Counting = PRODUCTS) -> dict[tuple[int, ...] | str, Cost]:
    """An encoder's parts: "embeddings" (with their projection), each sub-layer by (block, place in it), and "pooler".

    Arguments and errors as `forward_flops`.
    """
    if tokens > config.max_position_embeddings:
        longest = config.max_position_embeddings
        raise InputError(f"sequences of {tokens} tokens are longer than max_position_embeddings, {longest}")
    parts: dict[tuple[int, ...] | str, Cost] = {"embeddings": _embeddings(config, tokens, counting)}
    for number, block in enumerate(config.parsed_plan.blocks):
        for place, sublayer in enumerate(block.sublayers):
            parts[number, place] = sublayer_cost(config, sublayer, tokens, counting)
    if config.pooler:
        width = config.hidden_size
        parts["pooler"] = Cost(_of_linear(width, width), counting(linear(width, width) + Operations(activations=width)))
    return parts


def sublayer_cost(config: EncoderConfig, sublayer: SublayerSpec, tokens: int, counting: Counting = PRODUCTS) -> Cost:
    """Of a sub-layer with its residual connection and LayerNorm, or of all that stand in a row."""
    arguments = find_kind(sublayer.kind).arguments(config, **sublayer.function_options)
    width, framing = config.hidden_size, sublayer.frame_options
    operations = KINDS[sublayer.kind].operations(tokens, **arguments) + frame_operations(framing, width)
    numbers = _sublayer_parameters(sublayer.kind, tuple(arguments.items()), tuple(framing.items()), width)
    return Cost(sublayer.stack * numbers, sublayer.stack * tokens * counting(operations))


@lru_cache(maxsize=1024)
def _sublayer_parameters(
    kind: str, arguments: tuple[tuple[str, Any], ...], framing: tuple[tuple[str, str], ...], width: int
) -> int:
    with torch.device("meta"):
        return _count(build_frame(KINDS[kind].module(**dict(arguments)), dict(framing), width))


def _embeddings(config: EncoderConfig, tokens: int, counting: Counting) -> Cost:
    narrow, width = config.embedding_size, config.hidden_size
    sum_width = width if config.trigram_embeddings else narrow  # of the word's, position's and type's sum
    operations = Operations(elements=2 * sum_width, dropouts=sum_width, norms=sum_width)
    if counting.lookups:
        others = sum_width * (tokens + config.type_vocab_size)
        operations += Operations(products=narrow * config.vocab_size + others)
    rows = config.max_position_embeddings + config.type_vocab_size
    numbers = config.vocab_size * narrow + (rows + 2) * sum_width  # two of the norm
    if config.trigram_embeddings:
        operations += linear(3 * narrow, width)
        numbers += _of_linear(3 * narrow, width)
    elif narrow != width:
        operations += linear(narrow, width)
        numbers += _of_linear(narrow, width)
    return Cost(numbers, tokens * counting(operations))


def _pretraining_pass(config: EncoderConfig | ElectraConfig, tokens: int, counting: Counting) -> int:
    if isinstance(config, EncoderConfig):
        return forward_flops(config, tokens, counting) + _masked_lm(config, tokens, counting)
    found = config.discriminator
    width = found.hidden_size
    detection = linear(width, width) + Operations(activations=width) + linear(width, 1)
    flops = forward_flops(found, tokens, counting) + tokens * counting(detection)
    if config.uniform_generator:
        return flops
    generator = config.generator if config.untied_generator else found
    return flops + forward_flops(generator, tokens, counting) + _masked_lm(generator, tokens, counting)


def _masked_lm(config: EncoderConfig, tokens: int, counting: Counting) -> int:
    """The masked language model's head with its loss."""
    narrow, vocabulary = config.embedding_size, config.vocab_size
    operations = (
        linear(config.hidden_size, narrow)
        + Operations(activations=narrow, norms=narrow)
        + Operations(products=narrow * vocabulary, softmaxes=vocabulary)
        + Operations(elements=2 * vocabulary)  # the true token's share
    )
    return round(_PREDICTED * tokens * counting(operations))


def _of_linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
