"""How linear are an encoder's sites? One pass over training tokens fits all probes, one over others scores them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from bertkernels.analysis.capture import Place
from bertkernels.analysis.linear_probe import LinearProbe, choose_ridge, fit_linear
from bertkernels.analysis.moments import Moments
from bertkernels.analysis.probe_scores import ProbeScores, Scoring
from bertkernels.analysis.token_pairs import TokenPairs, token_pairs
from bertkernels.analysis.window_probe import windows
from bertkernels.errors import InputError

if TYPE_CHECKING:
    from bertkernels.analysis.layers import LayeredModel

_CHOOSING = 5  # one batch in so many chooses the ridge


@dataclass(frozen=True)
class FittedProbe:
    """A probe of a site, the ridge that it was fitted with, and its scores on held-out tokens."""

    probe: LinearProbe
    ridge: float
    scores: ProbeScores


@dataclass(frozen=True)
class SiteLinearity:
    """Of one site.

    Attributes:
        token: the probe that sees each token alone.
        window: the one that sees its neighbourhood too; None where the site does not mix tokens.
    """

    token: FittedProbe
    window: FittedProbe | None


def site_linearity(
    layered: LayeredModel,
    train: Iterable[Mapping[str, torch.Tensor]],
    held_out: Iterable[Mapping[str, torch.Tensor]],
    places: Collection[Place],
    reach: int = 1,
) -> dict[Place, SiteLinearity]:
    """Closed-form linear probes of `places`.

    The ridge is chosen on a fifth of the training batches; then the probe is fitted to all of them.
    For each place Dx·(Dx + Dy) sums in fp64 are kept twice, and as many of a Dx (2·reach + 2) times as wide where it
    mixes tokens: take the blocks of a large model one by one.

    Args:
        train, held_out: batches of the model's arguments, with `attention_mask`. No sequence should be in both.
        reach: neighbours on either side that the window probe sees.

    Raises:
        InputError: fewer than two training batches with tokens, no held-out one, or a site that is not there.
    """
    sites = {place: _Site(layered.site(*place).mixes, reach) for place in places}
    for number, found in enumerate(token_pairs(layered, train, places)):
        for place, pairs in found.items():
            sites[place].learn(pairs, chooses=number % _CHOOSING == 1)
    for site in sites.values():
        site.fit()
    for found in token_pairs(layered, held_out, places):
        for place, pairs in found.items():
            sites[place].score(pairs)
    return {place: site.result() for place, site in sites.items()}


class _Site:
    def __init__(self, mixes: bool, reach: int) -> None:
        self._token = _Fitting(lambda pairs: pairs.x)
        self._window = _Fitting(partial(_window_of, reach=reach)) if mixes else None
        self._fittings = [fitting for fitting in (self._token, self._window) if fitting]

    def learn(self, pairs: TokenPairs, chooses: bool) -> None:
        for fitting in self._fittings:
            fitting.learn(pairs, chooses)

    def fit(self) -> None:
        for fitting in self._fittings:
            fitting.fit()

    def score(self, pairs: TokenPairs) -> None:
        for fitting in self._fittings:
            fitting.score(pairs)

    def result(self) -> SiteLinearity:
        return SiteLinearity(self._token.result(), self._window.result() if self._window else None)


class _Fitting:
    """One probe from its first training batch to its scores."""

    def __init__(self, features: Callable[[TokenPairs], torch.Tensor]) -> None:
        self._features = features
        self._moments, self._choosing = Moments(), Moments()

    def learn(self, pairs: TokenPairs, chooses: bool) -> None:
        (self._choosing if chooses else self._moments).add(self._features(pairs), pairs.y)

    def fit(self) -> None:
        if not (self._moments.count and self._choosing.count):
            raise InputError("linear probes need two training batches with tokens: give more rows or smaller batches")
        self._ridge = choose_ridge(self._moments, self._choosing)
        self._moments.merge(self._choosing)
        self._probe = fit_linear(self._moments, self._ridge)
        del self._moments, self._choosing
        self._scoring = Scoring(self._probe.constant)

    def score(self, pairs: TokenPairs) -> None:
        self._scoring.add(pairs.y, self._probe(self._features(pairs)))

    def result(self) -> FittedProbe:
        if not self._scoring.tokens:
            raise InputError("linear probes need held-out tokens to be scored on, got none")
        return FittedProbe(self._probe, self._ridge, self._scoring.scores())


def _window_of(pairs: TokenPairs, reach: int) -> torch.Tensor:
    return windows(pairs.x, pairs.lengths, reach)
