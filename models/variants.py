"""The variants of a six-block BERT that Zhao et al. 2021 (arXiv 2101.04547) pre-trained, as fields of a configuration.

Names are the released scripts'; layers in them count from 1. What is not published: how much attention `increase` adds.
Here it is what a feed-forward sub-layer has in parameters, as two sub-layers of attention in its place. In the released
code every model without feed-forward sub-layers has the activation behind its attention; here only `add-gelu` has. ReLU
in chosen layers is in just these, where the released code leaves it on in all that follow.
"""

_BLOCKS = range(1, 7)
_CHOSEN = {**{f"layer{number}": (number,) for number in _BLOCKS}, "layer35": (3, 5), "layer135": (1, 3, 5)}


def _in_blocks(chosen: tuple[int, ...], varied: str) -> dict[str, str]:
    """The plan whose chosen blocks are varied."""
    return {"plan": " ".join(varied if number in chosen else "(attention ffn)" for number in _BLOCKS)}


VARIANTS: dict[str, dict[str, str]] = {
    "weighted-ffn": {"plan": "6*(attention ffn[residual=gated])"},
    "weighted-attention": {"plan": "6*(attention[residual=gated] ffn)"},
    "weighted-all": {"plan": "6*(attention[residual=gated] ffn[residual=gated])"},
    "weighted-attention-wo-sigmoid": {"plan": "6*(attention[residual=weighted] ffn)"},
    "weighted-attention-static": {"plan": "6*(attention[residual=scaled] ffn)"},
    "linear-attention": {"plan": "6*(linear_attention ffn)"},
    "linear-ffn": {"hidden_act": "linear"},
    "relu-all": {"hidden_act": "relu"},
    "add-gelu-attention": {"plan": "6*(attention[output_activation=gelu] ffn)"},
    "wo-ffn": {"plan": "6*attention"},
    "wo-ffn-add-gelu": {"plan": "6*attention[output_activation=gelu]"},
    "wo-ffn-increase-attention": {"plan": "6*(attention attention attention)"},
    "wo-ffn-add-gelu-increase-attention": {
        "plan": "6*(attention[output_activation=gelu] attention[output_activation=gelu]"
        " attention[output_activation=gelu])"
    },
    "new-layernorm": {"plan": "6*(attention[norm=output] ffn[norm=inner])"},
    **{
        f"remove-skip-connection-{name}": _in_blocks(chosen, "(attention[residual=none] ffn[residual=none])")
        for name, chosen in _CHOSEN.items()
    },
    **{f"relu-{name}": _in_blocks(chosen, "(attention ffn[activation=relu])") for name, chosen in _CHOSEN.items()},
}
