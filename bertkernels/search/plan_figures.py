"""What sub-layers of each kind cost in a supernet's slots."""

from bertkernels.bench.latency import ENCODER, measure_parts
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import costs, sublayer_cost
from bertkernels.models.plan import parse_plan
from bertkernels.search.limits import Figures, KindFigures


def kind_figures(config: EncoderConfig, tokens: int, latencies: dict[str, float] | None = None) -> KindFigures:
    """Figures of each kind of `config.supernet_kinds` and of the rest of the encoder.

    Args:
        tokens: of the sequence that operations are counted for.
        latencies: milliseconds, of `measure_latencies`; None: plans have none.
    """
    times = latencies or {}
    parts = costs(config, tokens)
    rest = [cost for part, cost in parts.items() if isinstance(part, str)]
    kinds = {}
    for kind in config.supernet_kinds:
        cost = sublayer_cost(config, parse_plan(kind).blocks[0].sublayers[0], tokens)
        kinds[kind] = Figures(cost.parameters, cost.flops, times.get(kind))
    parameters, flops = sum(cost.parameters for cost in rest), sum(cost.flops for cost in rest)
    return KindFigures(Figures(parameters, flops, times.get(ENCODER)), kinds)


def measure_latencies(config: EncoderConfig, tokens: int, batch: int, device: str) -> dict[str, float]:
    """Milliseconds of a forward pass of a sub-layer of each kind, and under `ENCODER` of all else, on this machine.

    Args:
        batch, tokens: full sequences, so many of that length.
    """
    plan = " ".join(config.supernet_kinds)
    each = EncoderConfig(**config.to_dict() | {"plan": plan, "supernet_kinds": None})
    timed = {name: timing.p50 / 1e3 for name, timing in measure_parts(each, batch, tokens, device=device).items()}
    slots = sum(timed[kind] for kind in config.supernet_kinds)
    return timed | {ENCODER: max(0.0, timed[ENCODER] - slots)}
