"""Measures one case: first that its peers agree, then how long they take."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from . import ENCODERS
from .case import Case, Peer, assert_agreement
from .profile import Profile, profile_call
from .select import bench_of
from .timing import Timing, interleaved

_SQUARE = "a large square product"
_SQUARE_WIDTH = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Measurement:
    """One case's times.

    Attributes:
        timings: by peer.
        floors: peers that do only the part of the work that nobody can leave out.
        left_out: peers that could not be compiled here, and why.
        easier: peers that do something else that is less work.
        matrix_rate: operations a second of a large square product, taken in turns with the peers; None where the
            case is not bound by products.
        profile: of a call of ours, where the case asks for it.
    """

    case: Case
    timings: dict[str, Timing]
    floors: frozenset[str]
    left_out: dict[str, str]
    easier: frozenset[str] = frozenset()
    matrix_rate: float | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class Effort:
    """Rounds at least, and seconds in all, for one case of an op and for one of an encoder."""

    name: str
    op_rounds: int
    op_seconds: float
    encoder_rounds: int
    encoder_seconds: float


FULL = Effort("full", op_rounds=7, op_seconds=0.4, encoder_rounds=3, encoder_seconds=1.5)
QUICK = Effort("quick", op_rounds=5, op_seconds=0.3, encoder_rounds=3, encoder_seconds=1.0)


def measure(case: Case, effort: Effort = FULL) -> Measurement:
    """Times a case's peers in turns.

    Raises:
        Disagreement: the peers do not compute the same.
    """
    is_op = case.op not in ENCODERS
    with ready_peers(case) as (peers, left_out):
        calls = {name: peer.call for name, peer in peers.items()}
        multiplies = bench_of(case).operations(case)
        if multiplies:
            calls[_SQUARE] = _square_product(case)
        timings = interleaved(
            calls,
            rounds=effort.op_rounds if is_op else effort.encoder_rounds,
            seconds=effort.op_seconds if is_op else effort.encoder_seconds,
            warmup=0,
            device=case.device,
            hide_launches=is_op,
        )
        profile = _profile(case, peers) if case.profile else None
    matrix_rate = 2e6 * _SQUARE_WIDTH[case.device] ** 3 / timings.pop(_SQUARE).p50 if multiplies else None
    floors, easier = (
        frozenset(name for name, peer in peers.items() if getattr(peer, kind)) for kind in ("floor", "easier")
    )
    return Measurement(case, timings, floors, left_out, easier, matrix_rate, profile)


def _profile(case: Case, peers: Mapping[str, Peer]) -> Profile:
    bench = bench_of(case)
    call = peers[bench.profiled].call
    return profile_call(bench.profiled, call, bench.operands_by_part(case), case.device)


def _square_product(case: Case) -> Callable[[], torch.Tensor]:
    width = _SQUARE_WIDTH[case.device]
    a, b = (torch.randn(width, width, device=case.device, dtype=case.torch_dtype) for _ in range(2))
    a @ b
    return lambda: a @ b


@contextlib.contextmanager
def ready_peers(case: Case) -> Iterator[tuple[dict[str, Peer], dict[str, str]]]:
    """A case's peers, compiled, called once and seen to agree; and those that cannot be compiled here, with the reason.

    Begins and ends without compiled code of other cases: past eight variants of one layer torch runs it eagerly.

    Raises:
        Disagreement: the peers do not compute the same.
    """
    torch._dynamo.reset()
    try:
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            yield _checked(bench_of(case).peers(case))
    finally:
        torch._dynamo.reset()


def _checked(peers: dict[str, Peer]) -> tuple[dict[str, Peer], dict[str, str]]:
    results, left_out = {}, {}
    for name, peer in peers.items():
        try:
            result = peer.call()
            if peer.compared is not None:
                result = peer.compared()
        except torch._dynamo.exc.TorchDynamoException as error:
            if not peer.compiled:
                raise
            left_out[name] = " ".join(str(error).split("\n")[:2])
            continue
        if not (peer.floor or peer.easier):
            results[name] = result
    assert_agreement(results)
    return {name: peer for name, peer in peers.items() if name not in left_out}, left_out
