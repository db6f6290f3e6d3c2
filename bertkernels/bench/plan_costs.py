"""A table of what an encoder costs, by embeddings and kinds of sub-layers: parameters, FLOPs, time on this machine."""

from collections import Counter
from collections.abc import Mapping, Sequence

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import Cost, costs
from bertkernels.models.operations import Counting

from .latency import ENCODER
from .timing import Timing


def rows(
    config: EncoderConfig, lengths: Sequence[int], counting: Counting, timed: Mapping[int, Mapping[str, Timing]]
) -> list[dict]:
    """One row for the embeddings, for all sub-layers of each different kind together, for the pooler, and for all.

    Args:
        lengths: of sequences, for which FLOPs are counted.
        timed: for some of these what `measure_parts` found.

    Returns:
        Of each: "part"; the "number" of its modules, their "parameters"; "flops" of one sequence's forward pass, and
        "milliseconds" (medians; a module's times their number), both by the sequence's length.
    """
    counted = {tokens: _by_name(config, costs(config, tokens, counting)) for tokens in lengths}
    numbers = Counter(str(sublayer) for block in config.parsed_plan.blocks for sublayer in block.sublayers)
    found = []
    for name in [*counted[lengths[0]], ENCODER]:
        of_part = {
            tokens: sum(parts.values(), Cost(0, 0)) if name == ENCODER else parts[name]
            for tokens, parts in counted.items()
        }
        number = numbers.get(name, 1)
        found.append(
            {
                "part": name,
                "number": number,
                "parameters": of_part[lengths[0]].parameters,
                "flops": {tokens: cost.flops for tokens, cost in of_part.items()},
                "milliseconds": {
                    tokens: number * timings[name].p50 / 1e3 for tokens, timings in timed.items() if name in timings
                },
            }
        )
    return found


def _by_name(config: EncoderConfig, parts: Mapping[tuple[int, ...] | str, Cost]) -> dict[str, Cost]:
    """Costs of sub-layers that the plan writes alike, added up."""
    blocks = config.parsed_plan.blocks
    added: dict[str, Cost] = {}
    for part, cost in parts.items():
        name = part if isinstance(part, str) else str(blocks[part[0]].sublayers[part[1]])
        added[name] = added.get(name, Cost(0, 0)) + cost
    return added


def table(found: Sequence[dict], batch: int) -> str:
    """The rows as text, times as of `batch` sequences."""
    lengths, timed = found[0]["flops"], found[-1]["milliseconds"]
    lines = [["part", "number", "parameters"]]
    lines[0] += [f"MFLOPs, {tokens} tokens" for tokens in lengths]
    lines[0] += [f"ms, {batch} × {tokens} tokens" for tokens in timed]
    for row in found:
        line = [row["part"], f"{row['number']}", f"{row['parameters']:,}"]
        line += [f"{row['flops'][tokens] / 1e6:,.1f}" for tokens in lengths]
        line += [f"{row['milliseconds'][tokens]:,.2f}" if tokens in row["milliseconds"] else "" for tokens in timed]
        lines.append(line)
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]).rstrip()
        for name, *cells in lines
    )
