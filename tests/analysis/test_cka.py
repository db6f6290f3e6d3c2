"""CKA by its own definition, with Gram matrices."""

import pytest
import torch

from bertkernels.analysis.cka import CKA


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    centring = torch.eye(len(x), dtype=x.dtype) - 1 / len(x)
    grams = [centring @ z @ z.T @ centring for z in (x, y)]
    return ((grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())).item()


def test_is_the_alignment_of_gram_matrices_however_it_is_cut():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64) + 100
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    states = {"x": x, "rotated": 3 * x @ rotation + 7, "other": torch.sin(x[:, :4])}
    cka = CKA()
    parts = {name: values.split([7, 0, 1, 42]) for name, values in states.items()}
    for number in range(4):
        cka.add({name: part[number] for name, part in parts.items()})
    expected = torch.tensor([[by_definition(one, other) for other in states.values()] for one in states.values()])
    torch.testing.assert_close(cka.matrix(), expected.double(), rtol=1e-6, atol=1e-9)
    assert cka.matrix()[0, 1] == pytest.approx(1) and cka.matrix()[0, 2] < 0.9


def test_bad_input():
    cka = CKA()
    cka.add({"x": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="same tokens"):
        cka.add({"y": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="same tokens"):
        CKA().add({"x": torch.zeros(3, 2), "y": torch.zeros(4, 2)})
