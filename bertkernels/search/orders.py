"""Orders of sub-layers to compare a search with: interleaved, sandwich, and others as they come.

Source of the names: LV-BERT (Yu et al. 2021, Fig. 1), which compares them with its searched order. The sandwich is
Press et al.'s (2020, §4): sub-layers that mix tokens first, feed-forward ones last, interleaved between.
"""

from collections.abc import Sequence
from itertools import cycle, islice

from bertkernels.models.supernet import Path

_FEED_FORWARD = ("ffn", "expression_ffn")


def named_orders(kinds: Sequence[str], slots: int) -> dict[str, Path]:
    """The interleaved and sandwich orders of so many slots, by name; different ones only.

    For each kind that mixes tokens: it and a feed-forward kind in turns, and their sandwich, whose ends are a third of
    the slots each. And all kinds in turns, as they are listed. Where there is no kind of either sort, only the last.
    """
    mixing = [kind for kind in kinds if not _is_feed_forward(kind)]
    feeding = [kind for kind in kinds if _is_feed_forward(kind)]
    orders = {}
    for mixer in mixing if feeding else ():
        orders[f"interleaved {mixer}"] = tuple(islice(cycle((mixer, feeding[0])), slots))
        orders[f"sandwich {mixer}"] = _sandwich(mixer, feeding[0], slots)
    orders["interleaved all"] = tuple(islice(cycle(kinds), slots))
    first = {order: name for name, order in reversed(orders.items())}
    return {name: order for name, order in orders.items() if first[order] == name}


def _sandwich(mixer: str, feeder: str, slots: int) -> Path:
    pairs = slots // 2
    ends = max(1, round(pairs / 3)) if pairs > 1 else 0
    middle = islice(cycle((mixer, feeder)), slots - 2 * ends)
    return (mixer,) * ends + tuple(middle) + (feeder,) * ends


def _is_feed_forward(kind: str) -> bool:
    return kind.partition("[")[0] in _FEED_FORWARD
