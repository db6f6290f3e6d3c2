"""The sub-layers of Hugging Face's BERT, ELECTRA and ConvBERT, patched or not, for `adapt`."""

from torch import nn
from transformers.models.convbert.modeling_convbert import ConvBertLayer

from .sublayers import ATTENTION, FFN, Heads, Sublayer
from .taps import INPUT, OUTPUT, Tap


def huggingface_sublayers(layer: nn.Module) -> list[Sublayer]:
    """Attention and the FFN of a BertLayer, ElectraLayer or ConvBertLayer."""
    (channels,) = layer.output.LayerNorm.normalized_shape
    return [_attention(layer, channels), _ffn(layer, channels)]


def _attention(layer: nn.Module, channels: int) -> Sublayer:
    inside, end = layer.attention.self, layer.attention.output
    of_attention = (inside.query, inside.key, inside.value)
    convolves = isinstance(layer, ConvBertLayer)
    of_convolution = (inside.conv_out_layer, inside.key_conv_attn_layer, inside.conv_kernel_layer) if convolves else ()
    count, width = inside.num_attention_heads, inside.attention_head_size
    convolution = count if convolves else 0
    context = Tap(end.dense, INPUT, (count + convolution) * width)
    return Sublayer(
        part=ATTENTION,
        kind="mixed" if convolves else "attention",
        start=Tap(layer.attention, INPUT, channels),
        end=Tap(layer.attention, OUTPUT, channels),
        entry=Tap(inside, INPUT, channels),
        middle=context,
        result=Tap(end.dense, OUTPUT, channels),
        dropout=end.dropout,
        norm=end.LayerNorm,
        inner=of_attention + of_convolution,
        last=(end.dense,),
        heads=Heads(context, count, convolution, width, of_attention, of_convolution, end.dense),
    )


def _ffn(layer: nn.Module, channels: int) -> Sublayer:
    up, end = layer.intermediate, layer.output
    down = end.dense
    width = down.in_features if isinstance(down, nn.Linear) else down.input_size
    return Sublayer(
        part=FFN,
        kind="ffn",
        start=Tap(up, INPUT, channels),
        end=Tap(end, OUTPUT, channels),
        entry=Tap(up, INPUT, channels),
        middle=Tap(down, INPUT, width),
        result=Tap(down, OUTPUT, channels),
        dropout=end.dropout,
        norm=end.LayerNorm,
        inner=(up.dense,),
        last=(down,),
        before_activation=Tap(up.dense, OUTPUT, width),
        linear=((up, "intermediate_act_fn", nn.Identity()),),
    )
