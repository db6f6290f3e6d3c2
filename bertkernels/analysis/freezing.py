"""Which weights train, by one line of text.

    selector := term { ("," | " ") term }                 the weights of any of them
    term     := factor { "&" factor }                     those that are in all of them
    factor   := [ "!" ] ( name | name ":" value )         "!": all but these

    all, nothing, embeddings, pooler, head                head: all that is outside of the encoder
    surgery                                               modules that surgery has put in
    blocks:4-7, blocks:2                                  blocks by number, wherever they run
    position:0-3                                          blocks by where they run
    part:attention, part:ffn, part:norm                   of all blocks; attention: whatever mixes tokens

`blocks:4-7 & part:ffn, embeddings` are the embeddings and the FFNs of four blocks; `!head` is all but the head.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from bertkernels.errors import InputError, point_at

from .layers import ADDED, LayeredModel, adapt
from .sublayers import ATTENTION, FFN

_FACTOR = re.compile(r"\s*(?P<no>!?)\s*(?P<name>[a-z]+)(?:\s*:\s*(?P<value>[a-z]+|[0-9]+(?:\s*-\s*[0-9]+)?))?\s*")
_NORM = "norm"
_PARTS = (ATTENTION, FFN, _NORM)


@dataclass
class Report:
    """What a selector froze.

    Attributes:
        selector: as it was given.
        rows: (place, parameters that train, all its parameters), numbers each, for embeddings, blocks and what else
            the model has.
        changed: the parameters that trained before.
    """

    selector: str
    rows: list[tuple[str, int, int]]
    changed: list[nn.Parameter] = field(repr=False)

    @property
    def trains(self) -> int:
        """How many numbers train."""
        return sum(trains for _, trains, _ in self.rows)

    @property
    def total(self) -> int:
        return sum(total for _, _, total in self.rows)

    def thaw(self) -> None:
        """Has the parameters that were frozen train again."""
        for parameter in self.changed:
            parameter.requires_grad_(True)

    def __str__(self) -> str:
        places = ", ".join(f"{name} {trains:,} of {total:,}" for name, trains, total in self.rows)
        return f"{self.trains:,} of {self.total:,} parameters train: {places}"


def freeze(model: nn.Module, selector: str) -> Report:
    """Has the weights that a selector names not train; all others stay as they are.

    Args:
        model: anything that `adapt` takes, also inside surgery.

    Raises:
        InputError: a selector that can't be read, or names what the model does not have; nothing is frozen then.
    """
    layers = adapt(model)
    chosen = select(layers, selector)
    changed = [parameter for parameter in chosen if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    rows = []
    counted: set[int] = set()
    for name, parameters in _places(layers):
        own = [parameter for parameter in parameters if id(parameter) not in counted]
        counted.update(map(id, own))
        trains = sum(parameter.numel() for parameter in own if parameter.requires_grad)
        rows.append((name, trains, sum(parameter.numel() for parameter in own)))
    return Report(selector, rows, changed)


def select(layers: LayeredModel, selector: str) -> list[nn.Parameter]:
    """The parameters that a selector names, each once. Raises InputError as `freeze` does."""
    every = {id(parameter): parameter for _, parameters in _places(layers) for parameter in parameters}
    chosen: set[int] = set()
    position = 0
    while position < len(selector.rstrip()):
        term = set(every)
        while True:
            match = _FACTOR.match(selector, position)
            if match is None:
                raise _error("expected a name such as head or blocks:0-3", selector, position)
            named = {id(parameter) for parameter in _named(layers, match, selector)}
            term &= set(every) - named if match["no"] else named
            position = match.end()
            if not selector.startswith("&", position):
                break
            position += 1
        chosen |= term
        if selector.startswith(",", position):
            position += 1
            if not selector[position:].strip():
                raise _error("expected another name", selector, position)
    if position == 0:
        raise _error("expected a name such as head or blocks:0-3", selector, 0)
    return [parameter for key, parameter in every.items() if key in chosen]


def _named(layers: LayeredModel, match: re.Match, selector: str) -> Iterable[nn.Parameter]:
    name, value = match["name"], match["value"]
    whole = dict(_places(layers))
    if name in _WITH_VALUE:
        if value is None:
            raise _error(f"{name} needs a value, such as {_WITH_VALUE[name][1]}", selector, match.end("name"))
        try:
            return _WITH_VALUE[name][0](layers, value)
        except InputError as error:
            raise _error(str(error), selector, match.start("value")) from None
    known = ("all", "nothing", "embeddings", "pooler", "head", ADDED)
    if name not in known:
        raise _error(f"{name!r} is none of {', '.join((*known, *_WITH_VALUE))}", selector, match.start("name"))
    if value is not None:
        raise _error(f"{name} takes no value", selector, match.start("value"))
    if name in ("all", "nothing"):
        return [parameter for parameters in whole.values() for parameter in parameters] if name == "all" else []
    if name not in whole:
        has = [place for place in whole if not place.startswith("block ")]
        raise _error(f"the model has no {name}; beside blocks it has {', '.join(has)}", selector, match.start("name"))
    return whole[name]


def _blocks(layers: LayeredModel, value: str) -> list[nn.Parameter]:
    blocks = layers.blocks
    return [one for number in _range(value, len(blocks), "blocks") for one in blocks[number].parameters()]


def _position(layers: LayeredModel, value: str) -> list[nn.Parameter]:
    order, blocks = layers.order, layers.blocks
    return [one for place in _range(value, len(order), "positions") for one in blocks[order[place]].parameters()]


def _part(layers: LayeredModel, value: str) -> list[nn.Parameter]:
    if value not in _PARTS:
        raise InputError(f"a part is one of {', '.join(_PARTS)}")
    modules: list[nn.Module] = []
    for number in range(len(layers.blocks)):
        for sublayer in layers.sublayers(number):
            if value == _NORM:
                modules += sublayer.norms
            elif value == sublayer.part:
                modules += [*sublayer.weights, *([] if sublayer.residual is None else [sublayer.residual])]
    return [one for module in modules for one in module.parameters()]


_WITH_VALUE: dict[str, tuple[Callable[[LayeredModel, str], list[nn.Parameter]], str]] = {
    "blocks": (_blocks, "blocks:0-3"),
    "position": (_position, "position:0-3"),
    "part": (_part, "part:ffn"),
}


def _range(value: str, count: int, what: str) -> range:
    first, _, last = value.partition("-")
    if not first.strip().isdigit():
        raise InputError(f"{what} are numbers, such as 2 or 0-3")
    start, end = int(first), int(last or first)
    if start > end or end >= count:
        raise InputError(f"the model has {what} 0 to {count - 1}")
    return range(start, end + 1)


def _places(layers: LayeredModel) -> list[tuple[str, list[nn.Parameter]]]:
    """The parameters of embeddings, blocks, pooler, head and surgery's modules, of those that there are.

    What is tied stands in several.
    """
    base = layers.base
    found = {"embeddings": [], "pooler": [], "head": [], ADDED: []}
    for name, module in base.named_children():
        if module is not base.encoder:
            found["pooler" if name == "pooler" else "embeddings"] += module.parameters()
    inside = {id(parameter) for parameter in base.parameters()}
    added = layers.model._modules.get(ADDED)
    found[ADDED] = [] if added is None else list(added.parameters())
    inside.update(map(id, found[ADDED]))
    found["head"] = [parameter for parameter in layers.model.parameters() if id(parameter) not in inside]
    blocks = [(f"block {number}", list(block.parameters())) for number, block in enumerate(layers.blocks)]
    outside = [(name, parameters) for name, parameters in found.items() if parameters]
    return [*outside[:1], *blocks, *outside[1:]]


def _error(message: str, selector: str, position: int) -> InputError:
    return InputError(f"selector: {message} {point_at(selector, position)}")
