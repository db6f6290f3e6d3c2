"""Names of the weights in EfficientBERT's program, beside ours, and which part of each a student has."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..configuration import EncoderConfig
from ..kinds import find_kind
from ..plan import SublayerSpec

UNUSED = "fit_dense."  # the projection to the teacher's width, which only distillation uses


@dataclass(frozen=True)
class Source:
    """A weight of theirs, of which a student has the first `rows` and `columns`; None: all."""

    name: str
    rows: int | None = None
    columns: int | None = None

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The student's part, as a tensor of its own; a weight that has less stays as it is, for the check to name."""
        part = weight[: self.rows] if self.columns is None else weight[: self.rows, : self.columns]
        return part.clone()


Names = dict[str, Source]  # by the name of our weight


def encoder_names(config: EncoderConfig) -> Names:
    """The bare encoder of `config`, whose blocks are (attention expression_ffn) or (attention ffn)."""
    names = {
        "embeddings.word_embeddings.weight": Source("embeddings.token_embeddings.weight"),
        "embeddings.position_embeddings.weight": Source("embeddings.position_embeddings.weight"),
        "embeddings.token_type_embeddings.weight": Source("embeddings.segment_embeddings.weight"),
        **linear("embeddings.norm", "embeddings.layernorm"),
    }
    if config.trigram_embeddings:
        names |= linear("embeddings.trigram", "embeddings.dense")
    for number, block in enumerate(config.parsed_plan.blocks):
        ours, theirs = f"encoder.blocks.{number}.sublayers", f"encoder.{number}"
        for role in ("query", "key", "value"):
            names |= linear(f"{ours}.0.function.{role}", f"{theirs}.attention.{role}")
        names |= linear(f"{ours}.0.function.output", f"{theirs}.attention.dense")
        names |= linear(f"{ours}.0.norm", f"{theirs}.attention.layernorm")
        names |= dict(_ffn_names(config, block.sublayers[1], f"{ours}.1", theirs))
    if config.pooler:
        names |= linear("pooler", "cls_pooler.dense")
    return names


def linear(ours: str, theirs: str, rows: int | None = None, columns: int | None = None) -> Names:
    """A linear layer, or a norm."""
    weight = Source(f"{theirs}.weight", rows, columns)
    return {f"{ours}.weight": weight, f"{ours}.bias": Source(f"{theirs}.bias", rows)}


def _ffn_names(config: EncoderConfig, spec: SublayerSpec, ours: str, theirs: str) -> Iterator[tuple[str, Source]]:
    if spec.kind == "ffn":
        frames, width = [(ours, f"{theirs}.ffn")], None
    else:
        frames = [(f"{ours}.{place}", f"{theirs}.all_ffn.{place}") for place in range(spec.stack)]
        width = find_kind(spec.kind).arguments(config, **spec.function_options)["intermediate_size"]
    for frame, ffn in frames:
        yield from linear(f"{frame}.function.up", f"{ffn}.dense1", rows=width).items()
        yield f"{frame}.function.down.weight", Source(f"{ffn}.dense2.weight", columns=width)
        yield f"{frame}.function.down.bias", Source(f"{ffn}.dense2.bias")
        yield from linear(f"{frame}.norm", f"{ffn}.layernorm").items()
