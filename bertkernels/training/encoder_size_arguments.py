"""The flags that give a new encoder its plan and sizes."""

from dataclasses import dataclass, field, fields


@dataclass
class EncoderSizeArguments:
    """What a new encoder has in place of a preset's own."""

    plan: str | None = field(default=None, metadata={"help": 'Sub-layers, such as "12*(mixed ffn)".'})
    hidden_size: int | None = field(default=None, metadata={"help": "Width of the hidden states."})
    embedding_size: int | None = field(default=None, metadata={"help": "Width of the embedding tables."})
    num_attention_heads: int | None = field(default=None, metadata={"help": "Attention heads."})
    intermediate_size: int | None = field(default=None, metadata={"help": "Width of feed-forward layers."})
    conv_kernel_size: int | None = field(default=None, metadata={"help": "Taps of dynamic convolutions."})
    head_ratio: float | None = field(default=None, metadata={"help": "Share of heads a mixed sub-layer gives up."})


SIZE_FIELDS = tuple(one.name for one in fields(EncoderSizeArguments))
