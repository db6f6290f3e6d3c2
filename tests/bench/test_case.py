import pytest
import torch

from bertkernels.bench.case import Disagreement, assert_agreement, differentiable, dimensions


def test_dimensions_are_the_published_ones():
    base, medium = dimensions("base"), dimensions("medium-small")
    assert (base.channels, base.heads, base.head_width, base.taps, base.intermediate) == (768, 6, 64, 9, 3072)
    assert (medium.channels, medium.heads, medium.head_width, medium.taps, medium.intermediate) == (384, 4, 48, 9, 1536)


def test_a_differentiable_peer_returns_output_and_gradients():
    a, b = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([5.0, 7.0], requires_grad=True)
    peer = differentiable(torch.mul, (a, b), torch.tensor([1.0, 10.0]), compiled=True)
    out, d_a, d_b = peer.call()
    assert peer.compiled and torch.equal(peer.forward(), out)
    assert out.tolist() == [10, 21]
    assert d_a.tolist() == [5, 70]
    assert d_b.tolist() == [2, 30]
    assert a.grad is None


def test_agreement_allows_rounding_and_other_shapes_of_the_same_numbers():
    x = torch.randn(6, 4)
    assert_agreement({"a": (x, x[0]), "b": (x.view(3, 2, 4) * (1 + 1e-6), x[0])})


def test_agreement_measures_vanishing_gradients_by_the_others():
    large, noise = torch.ones(100), torch.full((3,), 1e-7)
    assert_agreement({"a": (large, noise), "b": (large, -noise)})


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda out, grad: (out * 1.01, grad), id="output"),
        pytest.param(lambda out, grad: (out, grad.flip(0)), id="gradient"),
        pytest.param(lambda out, grad: (out,), id="gradient missing"),
        pytest.param(lambda out, grad: (out, grad[:-1]), id="shape"),
        pytest.param(lambda out, grad: (out, grad * float("nan")), id="nan"),
    ],
)
def test_disagreement_is_an_error(wrong):
    out, grad = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.arange(50.0)
    with pytest.raises(Disagreement, match="'b'"):
        assert_agreement({"a": (out, grad), "b": wrong(out, grad)})
