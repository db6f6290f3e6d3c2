"""`Surgery`: blocks of an encoder in another order, with parts of them replaced, removed, masked or changed."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from bertkernels.errors import InputError
from bertkernels.nn import ACTIVATIONS

from .edits import (
    Edit,
    add_nothing,
    drop_softmax,
    feed_same,
    mask_heads,
    move_norm,
    overwrite,
    reroute,
    scale_residual,
    set_activation,
    skip,
)
from .layers import ADDED, LayeredModel, Reordered, adapt
from .reordering import reorder, settle
from .sublayers import ATTENTION, FFN, Site, Sublayer

SKIP, ZERO, RANDOM, KEEP_NORM = "skip", "zero", "random", "keep-norm"
MODES = (SKIP, ZERO, RANDOM, KEEP_NORM)
PARTS = (ATTENTION, FFN, "all")
PLACEMENTS = ("before", "inside", "none")

Activation = str | Callable[[torch.Tensor], torch.Tensor]


class Surgery:
    """Edits of an encoder, in force inside a `with` block and gone to the bit after it.

        with Surgery(model).order([1, 0, 2]).remove(2, "mlp", "zero"):
            evaluate(model)

    Methods check what they are given, write it down and return the surgery. Edits are made in the order in which they
    were asked for, at once where the surgery is in force already. Blocks keep their numbers when their order changes,
    and their edits. Sub-layers that an edit looks into run module by module, all others as before.

    Modules that are put in train with the model: inside they are among its parameters, as `surgery`. Weights that were
    removed do not train. What training does to all others stays.

    Args:
        model: anything that `adapt` takes.

    Raises:
        InputError: by every method, where blocks, sites or values do not fit the model.
    """

    def __init__(self, model: nn.Module):
        self.layers = adapt(model)
        self._edits: list[Edit] = []
        self._added = nn.ModuleList()
        self._undo: ExitStack | None = None

    @property
    def model(self) -> nn.Module:
        return self.layers.model

    def __enter__(self) -> "Surgery":
        if self._undo is not None:
            raise InputError("this surgery is in force already")
        with ExitStack() as undo:
            for edit in self._edits:
                edit(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:  # else the edits were made for good inside
            undo.close()

    def permanent(self) -> LayeredModel:
        """Makes the edits for good, and returns the model as it is now, with blocks numbered as they run.

        Of our encoders, order and weights are saved with the model, whose plan follows the order; everything else lives
        as long as the model does.
        """
        if self._undo is None:
            self.__enter__()
        self._undo.pop_all()
        self._undo, self._edits = None, []
        if any(isinstance(row.blocks, Reordered) for row in self.layers.rows):
            settle(self.layers)
        return adapt(self.model)

    def order(self, blocks: Sequence[int], repeats: bool = False) -> "Surgery":
        """Has blocks[0] run first, blocks[1] second, and so on.

        Args:
            blocks: as many numbers as the model has blocks. With `repeats` any number may come several times, which
                shares its weights, and others then not at all.
        """
        blocks, count = list(blocks), len(self.layers.blocks)
        for number in blocks:
            self.layers.sublayers(number)
        if len(blocks) != count:
            raise InputError(f"an order of {count} blocks needs {count} numbers, got {len(blocks)}: {blocks}")
        missing = sorted(set(range(count)) - set(blocks))
        if missing and not repeats:
            raise InputError(f"{blocks} is no permutation of 0 to {count - 1}, {missing} are missing; allow repeats")
        widths = {number: self.layers.site(number, "encoder").widths for number in blocks}
        for place, number in enumerate(blocks):
            if number != place and widths[number] != self.layers.site(place, "encoder").widths:
                wanted = self.layers.site(place, "encoder").widths
                raise InputError(
                    f"block {number} can't take the place of block {place}: {_widths(widths[number], wanted)}"
                )
        return self._edit(lambda undo: reorder(undo, self.layers, blocks))

    def replace(self, block: int, site: str, module: nn.Module) -> "Surgery":
        """Has module(x) stand in the place of the site's y.

        Args:
            module: x […, Dx] → […, Dy], token by token: encoders may run on packed tokens. Whatever the site computed
                no longer matters, nor does it train.
        """
        place = self.layers.site(block, site)
        _check_fits(block, place, module)
        self._add(module)
        return self._edit(lambda undo: reroute(undo, place.start, place.end, module))

    def remove(self, block: int, site: str, mode: str = SKIP, seed: int = 0) -> "Surgery":
        """Removes a site of a block.

        Args:
            mode: "skip": the sub-layer that the site is, or the whole block, is left out with its residual connection
                and norm: y = x. "keep-norm": it adds nothing to the residual connection, and its norms stay as they
                were trained: y = LayerNorm(x) of a sub-layer. "zero": the site's weights and biases are zeros, and
                norms that are part of it as they began (weight 1, bias 0). "random": they are drawn from the published
                initialisation, biases zeros, which is what the released code does in the place of zeros.
            seed: of the drawing.
        """
        place = self.layers.site(block, site)
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if mode in (SKIP, KEEP_NORM):
            if place.drops is None:
                whole = ", ".join(name for name, one in self.layers.sites(block).items() if one.drops)
                raise InputError(f"{mode} removes whole sub-layers and blocks, not {site}: block {block} has {whole}")
            return self._edit(lambda undo: skip(undo, place) if mode == SKIP else add_nothing(undo, place))
        return self._edit(lambda undo: overwrite(undo, place, None if mode == ZERO else seed))

    def mask_heads(self, matrix: torch.Tensor) -> "Surgery":
        """Multiplies heads' results by what the matrix has for them.

        Args:
            matrix: [L, H] like `LayeredModel.head_mask()`. A block's row has its attention heads first, then its
                convolution heads; what is past them is not looked at. Its gradient is there if it asks for one.
        """
        shape = tuple(self.layers.head_mask().shape)
        if not isinstance(matrix, torch.Tensor) or tuple(matrix.shape) != shape:
            got = list(matrix.shape) if isinstance(matrix, torch.Tensor) else type(matrix).__name__
            raise InputError(f"a mask of heads must be a tensor [blocks, heads] = {list(shape)}, got {got}")
        return self._edit(lambda undo: mask_heads(undo, self.layers, matrix))

    def residual(self, block: int, part: str, scale: float | nn.Module) -> "Surgery":
        """Has sub-layers add scale · x to their output in the place of x.

        Args:
            part: "attention" (convolutions too), "ffn" or "all".
            scale: a number, 0 cuts the connection; or a module x […, C] → what to add […, C], which trains.
        """
        sublayers = self._parts(block, part)
        if isinstance(scale, nn.Module):
            self._add(scale)
            weigh = scale
        elif isinstance(scale, (int, float)) and not isinstance(scale, bool):
            weigh = (lambda x: x * scale) if scale else None
        else:
            raise InputError(f"scale must be a number or a module, got {type(scale).__name__}")
        return self._edit(lambda undo: [scale_residual(undo, sublayer, weigh) for sublayer in sublayers])

    def activation(self, block: int, function: Activation, part: str = FFN) -> "Surgery":
        """Has the FFN apply this activation, or with part="attention" the output of attention pass it.

        Args:
            function: a name from `bertkernels.nn.ACTIVATIONS`, or a function of […, D]; a module trains.
        """
        if isinstance(function, str) and function not in ACTIVATIONS:
            raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {function!r}")
        sublayers = self._parts(block, part)
        for sublayer in sublayers:
            if sublayer.part == FFN and sublayer.before_activation is None:
                raise InputError(f"the {sublayer.kind} of block {block} has no single activation to change")
        if isinstance(function, nn.Module):
            self._add(function)
        apply = ACTIVATIONS[function] if isinstance(function, str) else function
        return self._edit(lambda undo: [set_activation(undo, sublayer, apply) for sublayer in sublayers])

    def norm(self, block: int, placement: str, part: str = "all") -> "Surgery":
        """Has the trained LayerNorm of sub-layers stand elsewhere than over the sum, where nothing is left.

        Args:
            placement: "before": x + f(LayerNorm(x)), as in pre-norm encoders. "inside": x + LayerNorm(f(x)). "none".
        """
        if placement not in PLACEMENTS:
            raise InputError(f"placement must be one of {', '.join(PLACEMENTS)}, got {placement!r}")
        sublayers = self._parts(block, part)
        if not all(sublayer.norm_on_sum for sublayer in sublayers):
            raise InputError(
                f"block {block} has a sub-layer without a LayerNorm over the sum, which alone can be moved"
            )
        return self._edit(lambda undo: [move_norm(undo, sublayer, placement) for sublayer in sublayers])

    def linear_attention(self, block: int) -> "Surgery":
        """Has attention heads weigh values by query · key / √D itself, without a softmax; padding has the weight 0.

        Convolution heads stay as they are. There is no dropout on these weights.
        """
        heads = self.layers.heads(block)
        if heads is None or not heads.attention:
            kinds = ", ".join(sublayer.kind for sublayer in self.layers.sublayers(block))
            raise InputError(f"block {block} has no attention heads; it has {kinds}")
        site = self.layers.site(block, "attention_heads")
        return self._edit(lambda undo: drop_softmax(undo, self.layers, site, heads))

    def no_ffn(self, block: int, activation: Activation | None = None) -> "Surgery":
        """Leaves the FFN out with its residual connection and norm; the output of attention passes the activation."""
        sublayers = self.layers.sublayers(block)
        names = [name for name, site in self.layers.sites(block).items() if name.split("_")[0] == "ffn" and site.drops]
        if not names or len(names) == len(sublayers):
            raise InputError(
                f"block {block} has no FFN beside attention; it has {', '.join(one.kind for one in sublayers)}"
            )
        for name in names:
            self.remove(block, name, SKIP)
        return self if activation is None else self.activation(block, activation, ATTENTION)

    def feed_same(self) -> "Surgery":
        """Has every block take what the first one takes."""
        return self._edit(lambda undo: feed_same(undo, self.layers))

    def _parts(self, block: int, part: str) -> list[Sublayer]:
        if part not in PARTS:
            raise InputError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        sublayers = self.layers.sublayers(block)
        found = [sublayer for sublayer in sublayers if part in (sublayer.part, "all")]
        if not found:
            raise InputError(f"block {block} has no {part}; it has {', '.join(one.part for one in sublayers)}")
        return found

    def _add(self, module: nn.Module) -> None:
        if not self._added:
            self._edit(self._register)
        self._added.append(module)

    def _register(self, undo: ExitStack) -> None:
        if ADDED in self.model._modules:
            raise InputError("the model has modules of another surgery already; replace them all in one")
        self.model.add_module(ADDED, self._added.train(self.model.training))
        undo.callback(delattr, self.model, ADDED)

    def _edit(self, edit: Edit) -> "Surgery":
        self._edits.append(edit)
        if self._undo is not None:
            edit(self._undo)
        return self


def _check_fits(block: int, site: Site, module: nn.Module) -> None:
    if not isinstance(module, nn.Module):
        raise InputError(f"a site is replaced by a module, got {type(module).__name__}")
    like = next(module.parameters(), torch.zeros(()))
    taken, wanted = site.widths
    where = f"{site.name} of block {block} takes {taken} channels and gives {wanted}"
    try:
        with torch.no_grad():
            got = module(torch.zeros(1, 2, taken, dtype=like.dtype, device=like.device)).shape
    except RuntimeError as error:
        raise InputError(f"{where}; the module can't take them: {str(error).splitlines()[0]}") from None
    if tuple(got) != (1, 2, wanted):
        raise InputError(f"{where}; the module makes {list(got)} of [1, 2, {taken}]")


def _widths(got: tuple[int, int], wanted: tuple[int, int]) -> str:
    return f"it is {got[0]} channels wide and not {wanted[0]}" if got[0] == got[1] else f"{got} channels, not {wanted}"
