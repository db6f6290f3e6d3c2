"""One sub-layer of any encoder in its frame, y = LayerNorm(x + dropout(f(x))), and the sites inside it."""

from dataclasses import dataclass, replace

from torch import nn

from .taps import Tap

ATTENTION, FFN = "attention", "ffn"


@dataclass(frozen=True)
class Site:
    """A stretch of an encoder that probes fit, and that surgery replaces or removes: from x to y.

    Attributes:
        name: one of the published ones; further sub-layers of the same part in a block add _2, _3, … to it.
        kind: of the sub-layer, such as "mixed"; "block" for a whole block.
        mixes: whether y looks at other tokens than its own.
        start, end: where x [B, T, Dx] and y [B, T, Dy] are.
        weights: modules whose weights turn x into y, norms aside; norms: those of it.
        drops: what is left out where the site is skipped; None: it can't be.
    """

    name: str
    kind: str
    mixes: bool
    start: Tap
    end: Tap
    weights: tuple[nn.Module, ...]
    norms: tuple[nn.Module, ...] = ()
    drops: "tuple[Sublayer, ...] | None" = None

    @property
    def widths(self) -> tuple[int, int]:
        """Dx and Dy."""
        return self.start.width, self.end.width


@dataclass(frozen=True)
class Heads:
    """The heads of a sub-layer, and of its block, which stand side by side in what its output layer takes.

    Attributes:
        context: their results [B, T, (attention + convolution)·D].
        attention, convolution: how many there are of each kind, in this order.
        width: D of one head.
        of_attention, of_convolution: layers that make the results. Mixed attention's query also serves its convolution.
        output: the layer that takes the context.
    """

    context: Tap
    attention: int
    convolution: int
    width: int
    of_attention: tuple[nn.Module, ...]
    of_convolution: tuple[nn.Module, ...]
    output: nn.Module

    def __len__(self) -> int:
        return self.attention + self.convolution


@dataclass(frozen=True)
class Sublayer:
    """Where the parts of a sub-layer are.

    Attributes:
        part: "attention", which stands for convolutions too, or "ffn".
        kind: "attention", "mixed", "dynamic_conv", "ffn" or "expression_ffn".
        start, end: x and y of the whole.
        entry: x as f alone takes it, beside the residual connection.
        middle: what f's last layer takes: the heads' results, or the activated states of the FFN; None: f has no such.
        result: f(x), before dropout.
        dropout, norm: those of the frame; None: it has no norm.
        norm_on_sum: whether the norm is of x + dropout(f(x)).
        inner, last: f's modules with weights, before and after `middle`.
        heads: None for an FFN.
        residual: a module that weighs x before it is added; None: x itself is.
        before_activation: what an FFN's activation takes; None: it has no single one.
        linear: (module, attribute, value) that have an FFN run without its activation.
    """

    part: str
    kind: str
    start: Tap
    end: Tap
    entry: Tap
    middle: Tap | None
    result: Tap
    dropout: nn.Module
    norm: nn.Module | None
    inner: tuple[nn.Module, ...]
    last: tuple[nn.Module, ...]
    heads: Heads | None = None
    norm_on_sum: bool = True
    residual: nn.Module | None = None
    before_activation: Tap | None = None
    linear: tuple[tuple[nn.Module, str, object], ...] = ()

    @property
    def weights(self) -> tuple[nn.Module, ...]:
        """f's modules with weights."""
        return self.inner + self.last

    @property
    def norms(self) -> tuple[nn.Module, ...]:
        return () if self.norm is None else (self.norm,)

    @property
    def before_norm(self) -> Tap:
        """x + dropout(f(x))"""
        return Tap(self.norm, "input", self.start.width)

    def sites(self) -> list[Site]:
        """Its sites by their published names, without a number."""
        return self._attention_sites() if self.part == ATTENTION else self._ffn_sites()

    def _attention_sites(self) -> list[Site]:
        def site(name, start, end, weights, mixes=True, **more):
            return Site(name, self.kind, mixes, start, end, weights, **more)

        whole = (self,)
        sites = [
            site("self_attention", self.entry, self.middle, self.inner),
            site("self_attention_ff", self.entry, self.result, self.weights, drops=whole),
            site("ff_after_self_attention", self.middle, self.result, self.last, mixes=False),
            *([site("attention_before_ln", self.start, self.before_norm, self.weights)] if self.norm_on_sum else []),
            site("attention", self.start, self.end, self.weights, norms=self.norms, drops=whole),
        ]
        heads = self.heads
        if heads.convolution:
            at = (heads.attention * heads.width, len(heads) * heads.width)
            sites.append(site("convolution", self.entry, _channels(self.middle, at), heads.of_convolution))
        if heads.attention:
            at = (0, heads.attention * heads.width)
            # the query is shared with the convolution
            own = heads.of_attention[1:] if heads.convolution else heads.of_attention
            sites.append(site("attention_heads", self.entry, _channels(self.middle, at), own))
        return sites

    def _ffn_sites(self) -> list[Site]:
        def site(name, start, end, weights, **more):
            return Site(name, self.kind, False, start, end, weights, **more)

        whole = (self,)
        sites = [site("mlp", self.entry, self.result, self.weights, drops=whole)]
        if self.middle is not None:
            sites.append(site("ffn_gelu", self.entry, self.middle, self.inner))
        return [
            *sites,
            *([site("ffn_before_ln", self.start, self.before_norm, self.weights)] if self.norm_on_sum else []),
            site("ffn", self.start, self.end, self.weights, norms=self.norms, drops=whole),
        ]


def _channels(tap: Tap, at: tuple[int, int]) -> Tap:
    return replace(tap, width=at[1] - at[0], channels=at)
