"""One sub-layer of an encoder, in the frame that it stands in."""

from bertkernels.nn import PostNorm

from .configuration import EncoderConfig
from .kinds import find_kind
from .plan import SublayerSpec


def build_sublayer(config: EncoderConfig, spec: SublayerSpec) -> PostNorm:
    """LayerNorm(x + dropout(f(x))) with an f of the kind and options that the plan names."""
    return PostNorm(
        find_kind(spec.kind).build(config, dict(spec.options)),
        config.hidden_size,
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
    )
