"""One sub-layer of an encoder, in the frame that it stands in."""

from bertkernels.nn import PostNorm, PostNormStack, VariedFrame

from .configuration import EncoderConfig
from .frame_options import build_frame
from .kinds import find_kind
from .plan import SublayerSpec


def build_sublayer(config: EncoderConfig, spec: SublayerSpec) -> PostNorm | VariedFrame | PostNormStack:
    """LayerNorm(x + dropout(f(x))) with an f of the kind and options that the plan names, or a row of such.

    Other frames than this where the plan asks for them.
    """
    if "stack" not in find_kind(spec.kind).options:
        return _frame(config, spec)
    return PostNormStack(_frame(config, spec) for _ in range(spec.stack))


def _frame(config: EncoderConfig, spec: SublayerSpec) -> PostNorm | VariedFrame:
    return build_frame(
        find_kind(spec.kind).build(config, spec.function_options),
        spec.frame_options,
        config.hidden_size,
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
    )
