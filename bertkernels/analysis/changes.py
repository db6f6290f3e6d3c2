"""Changes of a model as plain data, by which jobs say what surgery is to do."""

from collections.abc import Callable, Sequence

import yaml
from torch import nn

from bertkernels.analysis.head_importance import masked
from bertkernels.analysis.jobs import Change
from bertkernels.analysis.surgery import Surgery
from bertkernels.errors import InputError

Modules = Callable[[int, str], nn.Module]  # (block, site) → what to put in its place


def order(blocks: Sequence[int], repeats: bool = False) -> Change:
    """Blocks in another order; with `repeats` some several times, with shared weights."""
    return {"do": "order", "blocks": list(blocks), "repeats": repeats}


def remove(block: int, site: str, mode: str, seed: int = 0) -> Change:
    return {"do": "remove", "block": block, "site": site, "mode": mode, "seed": seed}


def replace(block: int, site: str) -> Change:
    """A site replaced by the module that the experiment has for it."""
    return {"do": "replace", "block": block, "site": site}


def residual(block: int, part: str, scale: float) -> Change:
    return {"do": "residual", "block": block, "part": part, "scale": scale}


def mask_heads(heads: Sequence[tuple[int, int]]) -> Change:
    """These heads, (block, head) each, set to zero, and no others."""
    return {"do": "mask_heads", "heads": [list(head) for head in heads]}


def read_change(text: str) -> Change:
    """A change from a flag or a file of flags: `{do: residual, block: 2, part: all, scale: 0}`.

    Raises:
        InputError: it is none; whether it fits a model is seen when it is applied.
    """
    try:
        change = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--changes {text!r} is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(change, dict) or "do" not in change:
        raise InputError(f"--changes are like '{{do: residual, block: 2, part: all, scale: 0}}', got {text!r}")
    if change["do"] not in _KNOWN or change["do"] == "replace":
        known = ", ".join(name for name in _KNOWN if name != "replace")
        raise InputError(f"--changes can do {known}, not {change['do']!r}")
    return change


def apply(surgery: Surgery, changes: Sequence[Change], modules: Modules | None = None) -> Surgery:
    """Has the surgery make the changes, in order.

    Raises:
        InputError: one that does not fit the model, or lacks an argument.
    """
    for change in changes:
        arguments = {name: value for name, value in change.items() if name != "do"}
        make = _KNOWN[change["do"]]
        try:
            make(surgery, modules, **arguments)
        except TypeError as error:
            raise InputError(f"the change {change} has not the arguments that it takes: {error}") from error
    return surgery


def _mask_heads(surgery: Surgery, _: Modules | None, heads: Sequence[Sequence[int]]) -> None:
    surgery.mask_heads(masked(surgery.layers, map(tuple, heads)))


def _replace(surgery: Surgery, modules: Modules | None, block: int, site: str) -> None:
    surgery.replace(block, site, modules(block, site))


def _plain(name: str) -> Callable[..., None]:
    """The surgery's own method of that name."""

    def make(surgery: Surgery, _: Modules | None, **arguments: object) -> None:
        getattr(surgery, name)(**arguments)

    return make


_PLAIN = ("order", "remove", "residual", "activation", "norm", "linear_attention", "no_ffn", "feed_same")
_KNOWN: dict[str, Callable[..., None]] = {
    **{name: _plain(name) for name in _PLAIN},
    "mask_heads": _mask_heads,
    "replace": _replace,
}
