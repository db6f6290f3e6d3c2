"""How long an encoder of any plan takes on this machine, whole and by its sub-layers."""

from collections.abc import Callable

import torch

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel

from .timing import Timing, TwoSteps, interleaved

ENCODER = "encoder"


def measure_latency(
    plan: str,
    config: EncoderConfig,
    batch: int,
    tokens: int,
    *,
    training: bool = False,
    device: str = "cpu",
    rounds: int = 5,
    seconds: float = 1.0,
) -> Timing:
    """Times an encoder of this plan; quantiles in microseconds, `p50` the median.

    Args:
        plan: its sub-layers.
        config: all else about it; its own plan is not looked at.
        batch, tokens: the input, full sequences.
        training: forward and backward with dropout, instead of inference.
        device: "cpu", with torch's number of threads as it is, or "cuda".
        rounds, seconds: how long to measure at least, as `bertkernels.bench.timing.interleaved`.

    Raises:
        InputError: the plan does not fit the configuration, or the sequences are too long for it.
    """
    model = _build(EncoderConfig(**{**config.to_dict(), "plan": plan}), batch, tokens, training, device)
    call = _encoder_call(model, batch, tokens, training)
    return interleaved({ENCODER: call}, rounds=rounds, seconds=seconds, device=device)[ENCODER]


def measure_parts(
    config: EncoderConfig,
    batch: int,
    tokens: int,
    *,
    training: bool = False,
    device: str = "cpu",
    rounds: int = 5,
    seconds: float = 1.0,
    on_round: Callable[[float], None] | None = None,
) -> dict[str, Timing]:
    """Times an encoder, under the name `ENCODER`, and one of each of its different sub-layers, as the plan writes them.

    They take turns, so that their ratios hold. Arguments and errors as `measure_latency`; `on_round` as `interleaved`.
    """
    model = _build(config, batch, tokens, training, device)
    calls: dict[str, Callable[[], object]] = {ENCODER: _encoder_call(model, batch, tokens, training)}
    for block, spec in zip(model.encoder.blocks, config.parsed_plan.blocks, strict=True):
        for module, sublayer in zip(block.sublayers, spec.sublayers, strict=True):
            if str(sublayer) not in calls:
                x = torch.randn(batch, tokens, config.hidden_size, device=device, requires_grad=training)
                calls[str(sublayer)] = _call(module, x, training)
    return interleaved(calls, rounds=rounds, seconds=seconds, device=device, on_round=on_round)


def _build(config: EncoderConfig, batch: int, tokens: int, training: bool, device: str) -> EncoderModel:
    for name, value in (("batch", batch), ("tokens", tokens)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if tokens > config.max_position_embeddings:
        longest = config.max_position_embeddings
        raise InputError(f"sequences of {tokens} tokens are longer than max_position_embeddings, {longest}")
    with torch.device("meta"):
        model = EncoderModel(config)
    model.to_empty(device=device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.05, 0.05)  # any numbers will do, and these are quickly drawn
    return model.train(training)


def _encoder_call(model: EncoderModel, batch: int, tokens: int, training: bool) -> Callable[[], object]:
    ids = torch.randint(model.config.vocab_size, (batch, tokens), device=model.device)
    return _call(lambda ids: model(ids).last_hidden_state, ids, training, list(model.parameters()))


def _call(
    function: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    training: bool,
    parameters: list[torch.nn.Parameter] | None = None,
) -> Callable[[], object]:
    """A call of function(x), and in training of the gradients of all its parameters, and of x where it has one."""
    if not training:
        return torch.no_grad()(lambda: function(x))
    inputs = list(function.parameters()) if parameters is None else parameters
    inputs += [x] if x.requires_grad else []

    def backward(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, inputs, torch.ones_like(out), allow_unused=True)  # the pooler's are not used

    return TwoSteps(lambda: function(x), backward)
