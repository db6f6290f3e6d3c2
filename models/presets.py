"""The zoo's encoders by name.

The order of sub-layers in `lvbert-medium` and `lvbert-base` is an inference: the authors released one order, that of
`lvbert-small`, and the sizes of the files with the other two models' weights fit its eight sub-layers of each kind.

EfficientBERT's authors released one genotype for all sizes. `efficientbert-plusplus` has the feed-forward width of the
released code, 360; the size that its log prints is that of 540, `efficientbert-plusplus-wide`. `efficientbert-plus` is
`efficientbert-base` with weights from another training.
"""

from difflib import get_close_matches

from bertkernels.errors import InputError

from .configuration import EncoderConfig
from .electra import ElectraConfig, generator_config
from .genotype import RELEASED, genotype_plan, parse_genotype
from .variants import VARIANTS

_BERT = {"plan": "12*(attention ffn)", "pooler": True}
_ELECTRA = {"plan": "12*(attention ffn)"}
_CONVBERT = {"plan": "12*(mixed ffn)", "conv_kernel_size": 9, "head_ratio": 2}
# The one order that was searched and released: [0,0, 1,2, 2,1, …] with 0 for dynamic_conv, 1 attention and 2 ffn. In
# pairs, because the released code numbers its layers so, and fine-tuning's rates by depth follow these numbers.
_LVBERT = {
    "plan": "(dynamic_conv dynamic_conv) (attention ffn) (ffn attention) (dynamic_conv ffn)"
    " (ffn attention) (dynamic_conv dynamic_conv) (attention ffn) (dynamic_conv ffn)"
    " (attention dynamic_conv) (ffn dynamic_conv) (attention attention) (ffn attention)",
    "conv_kernel_size": 9,
}
_BERT_512 = {**_BERT, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}
_BERT_SMALL_6 = {**_BERT_512, "plan": "6*(attention ffn)"}
_BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
_SMALL = {"hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024}
_MEDIUM_SMALL = {"hidden_size": 384, "embedding_size": 128, "num_attention_heads": 8, "intermediate_size": 1536}
_MEDIUM = {"hidden_size": 384, "embedding_size": 128, "num_attention_heads": 6, "intermediate_size": 1536}
_EFFICIENTBERT = {
    "plan": genotype_plan(parse_genotype(RELEASED)),
    "num_attention_heads": 12,
    "embedding_size": 128,
    "trigram_embeddings": True,
    "hidden_act": "gelu_tanh",
    "layer_norm_eps": 1e-5,
    "pooler": True,
}
_EFFICIENTBERT_BASE = {**_EFFICIENTBERT, "hidden_size": 540, "intermediate_size": 540}
_EFFICIENTBERT_TINY = {**_EFFICIENTBERT, "hidden_size": 360, "intermediate_size": 360}
_EFFICIENTBERT_12 = {**_EFFICIENTBERT_TINY, "plan": genotype_plan(parse_genotype(RELEASED), blocks=12)}

# BERT-small is the 4-layer, 512-wide one of Turc et al. 2019. BERT-small-6 is that of Zhao et al. 2021 (arXiv
# 2101.04547); its feed-forward width is not published, and 2048 gives the 35 million parameters that are. ELECTRA,
# ConvBERT and LV-BERT are as their authors released them; TinyBERT (Jiao et al. 2020) has BERT's own activation and
# epsilon.
_PRESETS: dict[str, dict] = {
    "bert-small": {**_BERT_512, "plan": "4*(attention ffn)"},
    "bert-small-6": _BERT_SMALL_6,
    **{f"bert-small-6-{name}": {**_BERT_SMALL_6, **fields} for name, fields in VARIANTS.items()},
    "bert-base": {**_BERT, **_BASE},
    "electra-small": {**_ELECTRA, **_SMALL},
    "electra-base": {**_ELECTRA, **_BASE},
    "convbert-small": {**_CONVBERT, **_SMALL},
    "convbert-medium-small": {**_CONVBERT, **_MEDIUM_SMALL, "plan": "12*(mixed ffn[groups=2])"},
    "convbert-base": {**_CONVBERT, **_BASE},
    "lvbert-small": {**_LVBERT, **_SMALL},
    "lvbert-medium": {**_LVBERT, **_MEDIUM},
    "lvbert-base": {**_LVBERT, **_BASE},
    "tinybert-4": {
        **_BERT,
        "plan": "4*(attention ffn)",
        "hidden_size": 312,
        "num_attention_heads": 12,
        "intermediate_size": 1200,
    },
    "tinybert-6": {**_BERT, **_BASE, "plan": "6*(attention ffn)"},
    "efficientbert-tiny": _EFFICIENTBERT_TINY,
    "efficientbert-base": _EFFICIENTBERT_BASE,
    "efficientbert-plus": _EFFICIENTBERT_BASE,
    "efficientbert-plusplus": _EFFICIENTBERT_12,
    "efficientbert-plusplus-wide": {**_EFFICIENTBERT_12, "intermediate_size": 540},
    "efficientbert-tinybert6": {
        **_EFFICIENTBERT,
        **_BASE,
        "embedding_size": 768,
        "trigram_embeddings": False,
        "expression_widths": "pad",
    },
}

# How wide the published generator is, of the discriminator's width.
_GENERATOR_FRACTIONS = {
    "electra-small": 1 / 4,
    "electra-base": 1 / 3,
    "convbert-small": 1 / 4,
    "convbert-medium-small": 1 / 4,
    "convbert-base": 1 / 3,
    "lvbert-small": 1 / 4,
    "lvbert-medium": 1 / 3,
    "lvbert-base": 1 / 3,
}


def preset_names() -> list[str]:
    """Names that `preset` knows."""
    return list(_PRESETS)


def electra_preset_names() -> list[str]:
    """Names that `electra_preset` knows."""
    return list(_GENERATOR_FRACTIONS)


def preset(name: str, **changes) -> EncoderConfig:
    """The configuration of a published encoder, with `padding="exact"` since its weights are yet to be trained.

    Args:
        name: one of `preset_names()`.
        changes: fields of `EncoderConfig` to set otherwise.

    Raises:
        InputError: there is no such preset, or the changes do not fit.
    """
    _check(name, _PRESETS, "preset")
    return EncoderConfig(**{**_PRESETS[name], **changes})


def electra_preset(name: str, **changes) -> ElectraConfig:
    """The published pair of generator and discriminator for ELECTRA pre-training.

    Args:
        name: one of `electra_preset_names()`.
        changes: fields of the discriminator's `EncoderConfig` to set otherwise; the generator follows.

    Raises:
        InputError: there is no such preset, or the changes do not fit.
    """
    _check(name, _GENERATOR_FRACTIONS, "ELECTRA preset")
    discriminator = preset(name, **changes)
    return ElectraConfig(
        generator=generator_config(discriminator, _GENERATOR_FRACTIONS[name]), discriminator=discriminator
    )


def _check(name: str, known: dict, what: str) -> None:
    if name not in known:
        close = get_close_matches(str(name), known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise InputError(f"unknown {what} {name!r}{hint} Known: {', '.join(known)}")
