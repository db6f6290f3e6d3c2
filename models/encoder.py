"""The encoder: embeddings, then blocks of sub-layers as the plan says."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from bertkernels.nn import (
    ALL_TOKENS,
    Alignment,
    DepthwiseConv1d,
    GlorotLinear,
    GroupedLinear,
    Layout,
    Packing,
    ScaledResidual,
    pack_mask,
    shapes_are_static,
)

from .configuration import EncoderConfig
from .embeddings import Embeddings, TrigramEmbeddings
from .plan import BlockSpec
from .slot import Slot
from .sublayer import build_sublayer


@dataclass
class EncoderOutput(ModelOutput):
    """What an encoder returns.

    Attributes:
        last_hidden_state: [B, T, C], zeros at padding under `padding="exact"`; packed [total, C] beside `packing`.
        pooler_output: [B, C]: the first token, through the pooler if there is one; not of packed states.
        hidden_states: on request, [B, T, C] each: the first block's input, then each block's output.
        attentions: on request, [B, H, T, T] for each sub-layer that has attention heads, before dropout.
        sublayer_states: on request, [B, T, C] each: the first block's input, then each sub-layer's output.
        packing: where the states' tokens belong, if they were left packed.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    sublayer_states: tuple[torch.Tensor, ...] | None = None
    packing: Packing | None = None


class Block(GradientCheckpointingLayer):
    """The sub-layers of one block, one after the other; what gradient checkpointing recomputes as one."""

    def __init__(self, config: EncoderConfig, spec: BlockSpec):
        super().__init__()
        build = build_sublayer if config.supernet_kinds is None else Slot
        self.sublayers = nn.ModuleList(build(config, sublayer) for sublayer in spec.sublayers)

    def forward(
        self, x: torch.Tensor, layout: Layout = ALL_TOKENS, output_states: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """x [B, T, C], or packed [total, C] → the same; with output_states the outputs of all sub-layers."""
        states = []
        for sublayer in self.sublayers:
            x = sublayer(x, layout)
            states.append(x)
        return tuple(states) if output_states else x


class Encoder(nn.Module):
    """The blocks of a plan."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, spec) for spec in config.parsed_plan.blocks)

    @property
    def running(self) -> Iterable[Block]:
        """The blocks that a forward pass takes, in order."""
        return self.blocks

    def forward(
        self, x: torch.Tensor, layout: Layout = ALL_TOKENS, output_states: bool = False
    ) -> torch.Tensor | list[tuple[torch.Tensor, ...]]:
        """x [B, T, C], or packed [total, C] → the same; with output_states the outputs of all sub-layers by block."""
        states = []
        for block in self.running:
            if output_states:
                states.append(block(x, layout, True))
                x = states[-1][-1]
            else:
                x = block(x, layout)
        return states if output_states else x


class EncoderPreTrainedModel(PreTrainedModel):
    """Loading, saving and the published initialisation (ConvBERT's, which is BERT's but for the convolutions).

    Weights come from a normal distribution of standard deviation initializer_range, cut at two of them; those of
    depthwise filters from one of 1 / K. `GlorotLinear`s, which are the embeddings' projection, the outputs of all but
    the language model and what makes the kernels of `dynamic_conv`, start Glorot-uniform, biases at 0, LayerNorm
    weights at 1.
    """

    config: EncoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, GlorotLinear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, (nn.Linear, nn.Embedding, GroupedLinear)):
            truncated_normal(module.weight, std)
        elif isinstance(module, DepthwiseConv1d):
            truncated_normal(module.weight, 1 / module.weight.shape[1])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
        elif isinstance(module, ScaledResidual):
            init.ones_(module.scale)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            init.zeros_(module.bias)


def truncated_normal(weight: torch.Tensor, std: float) -> None:
    """Normal of standard deviation `std` before it is cut at ±2·std, as TensorFlow's initialiser of this name."""
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class EncoderModel(EncoderPreTrainedModel):
    """The bare encoder.

    Under `padding="exact"` a batch with an attention_mask that leaves tokens out runs packed from the embeddings on:
    every sequence comes out as if it were alone, wherever its padding stands, and positions, unless position_ids are
    given, count its real tokens. Under "reference" convolutions see padding, and positions count it.

    Args:
        config: what to build.
        add_pooler: None: as config.pooler says.
    """

    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?pooler\."]

    def __init__(self, config: EncoderConfig, add_pooler: bool | None = None):
        super().__init__(config)
        config.check()
        narrow = config.embedding_size != config.hidden_size and not config.trigram_embeddings
        self.embeddings = TrigramEmbeddings(config) if config.trigram_embeddings else Embeddings(config)
        self.embeddings_projection = GlorotLinear(config.embedding_size, config.hidden_size) if narrow else None
        self.encoder = Encoder(config)
        wants_pooler = config.pooler if add_pooler is None else add_pooler
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if wants_pooler else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_sublayer_states: bool = False,
        unpack: bool = True,
    ) -> EncoderOutput:
        """Encodes a batch.

        Args:
            input_ids: int64 [B, T]; or inputs_embeds [B, T, E] in place of the word embeddings.
            attention_mask: [B, T], 1 or True at real tokens; None: all are real.
            token_type_ids: int64 [B, T]; None: 0.
            position_ids: int64 [B, T] or [1, T]; None: 0 … T - 1.
            output_hidden_states, output_attentions, output_sublayer_states: ask for those fields of the output.
            unpack: False leaves last_hidden_state packed where the batch ran packed, and says so in `packing`.

        Raises:
            ValueError: both or neither of input_ids and inputs_embeds, a mask of another shape, too long a sequence.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        wants_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        wants_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        shape = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
        mask = real_tokens(attention_mask, shape)

        packing = pack_mask(mask) if mask is not None and self.config.padding == "exact" else None
        if packing is not None:
            layout = packing.layout
        elif mask is not None and self.config.padding == "reference":
            layout = Layout(attention_mask=key_mask(mask))
        else:
            layout = ALL_TOKENS
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, packing)
        if self.embeddings_projection is not None:
            # [B, T, C], or [total, C] if packed. What layers add to keeps its dtype under autocast, as in every block.
            x = self.embeddings_projection(x).to(x.dtype)

        output = EncoderOutput()
        if wants_hidden or wants_attentions or output_sublayer_states:
            states = self.encoder(x, layout, output_states=True)
            by_block = [x, *(block[-1] for block in states)]
            by_sublayer = [x, *(state for block in states for state in block)]
            x = by_block[-1]
            if wants_hidden:
                output.hidden_states = tuple(_unpack(state, packing) for state in by_block)
            if output_sublayer_states:
                output.sublayer_states = tuple(_unpack(state, packing) for state in by_sublayer)
            if wants_attentions:
                output.attentions = self._attentions(by_sublayer[:-1], layout, packing, mask)
        else:
            x = self.encoder(x, layout)
        if packing is not None and not unpack:
            output.last_hidden_state, output.packing = x, packing
            return output
        output.last_hidden_state = _unpack(x, packing)
        output.pooler_output = self._pooled(output.last_hidden_state, None if packing is None else mask)
        return output

    def _pooled(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The first token [B, C] of x [B, T, C], or with a mask the first real one, through the pooler if any."""
        if mask is None:
            first = x[:, 0]
        else:
            first = x[torch.arange(x.shape[0], device=x.device), mask.to(torch.uint8).argmax(1)]
        return first if self.pooler is None else torch.tanh(self.pooler(first))

    def _attentions(
        self, inputs: list[torch.Tensor], layout: Layout, packing: Packing | Alignment | None, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """Attention maps [B, H, T, T] of every sub-layer that has heads, from the inputs of all sub-layers."""
        functions = [sublayer.function for block in self.encoder.running for sublayer in block.sublayers]
        padded = layout if packing is None else Layout(attention_mask=mask[:, None, None, :])
        maps = (
            function.attention_probs(_unpack(x, packing), padded)
            for function, x in zip(functions, inputs, strict=True)
            if hasattr(function, "attention_probs")
        )
        if packing is None:
            return tuple(maps)
        return tuple(probs * mask[:, None, :, None] for probs in maps)  # padding asks nothing either


def real_tokens(attention_mask: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
    """attention_mask [B, T] as bool; None where there is none or where it is seen to leave nothing out."""
    if attention_mask is None:
        return None
    if attention_mask.shape != shape:
        raise ValueError(f"attention_mask must be [B, T] = {list(shape)}, got {list(attention_mask.shape)}")
    mask = attention_mask.bool()
    # looking is free on the CPU only: elsewhere it waits for the device, and a compiler cannot branch on it
    free = mask.device.type == "cpu" and not torch.compiler.is_compiling() and not shapes_are_static()
    if free and bool(mask.all()):
        return None
    return mask


def key_mask(mask: torch.Tensor) -> torch.Tensor:
    """bool [B, T] → bool [B, 1, 1, T]. A row without any real token attends everywhere.

    So it does in the released code, which adds -10000 to masked scores: the same number everywhere changes nothing.
    """
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]


def _unpack(x: torch.Tensor, packing: Packing | Alignment | None) -> torch.Tensor:
    return x if packing is None else packing.unpack(x)


AutoConfig.register(EncoderConfig.model_type, EncoderConfig, exist_ok=True)
AutoModel.register(EncoderConfig, EncoderModel, exist_ok=True)
