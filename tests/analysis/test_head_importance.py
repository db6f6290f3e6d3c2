"""Measures of heads: the gradient against differences, norms against weights, scores of masked models."""

import pytest
import torch

from bertkernels.analysis import head_importance as importance
from bertkernels.analysis.layers import adapt
from bertkernels.analysis.surgery import Surgery
from bertkernels.errors import InputError
from tests.analysis.encoders import batch, build, each, logits

_SOME = ("bert", "convbert", "lvbert", "hf-bert", "hf-convbert-patched")


def _loss(model):
    with torch.no_grad():
        return float(model(**batch(labels=True)).loss)


def _score(model):
    return -_loss(model)


@each(_SOME)
def test_the_gradient_is_the_slope_of_the_loss(family):
    model = build(family).train()
    got = importance.importance_by_gradient(adapt(model), [batch(labels=True)])
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    model = model.double().eval()
    layers = adapt(model)
    for block, head in ((0, 1), (2, 3)):
        slopes = []
        for step in (1e-4, -1e-4):
            mask = layers.head_mask().double()
            mask[block, head] += step
            with Surgery(model).mask_heads(mask):
                # the model's own loss is of logits in single precision
                slopes.append(float(torch.nn.functional.cross_entropy(logits(model), batch(labels=True)["labels"])))
        slope = abs(slopes[0] - slopes[1]) / 2e-4
        torch.testing.assert_close(float(got[block, head]), slope, atol=1e-4, rtol=1e-3)


def test_the_gradient_is_a_mean_over_sequences():
    model, whole = build("hf-bert"), batch(labels=True)
    pieces = [{name: rows[part] for name, rows in whole.items()} for part in (slice(0, 1), slice(1, 4))]
    one, three = (importance.importance_by_gradient(adapt(model), [piece]) for piece in pieces)
    torch.testing.assert_close(importance.importance_by_gradient(adapt(model), pieces), one / 4 + three * 3 / 4)


def test_norms_are_those_of_a_heads_weights():
    model = build("bert")
    attention = model.model.encoder.blocks[1].sublayers[0].function
    rows = [layer.weight[4:8] for layer in (attention.query, attention.key, attention.value)]
    expected = torch.cat([*(row.flatten() for row in rows), attention.output.weight[:, 4:8].flatten()]).norm()
    torch.testing.assert_close(importance.importance_by_norm(adapt(model))[1, 1], expected.detach())


@pytest.mark.parametrize("family", ["convbert", "hf-convbert"])
def test_norms_of_convolution_heads_are_those_of_their_weights(family):
    model = build(family)
    heads = adapt(model).heads(0)
    before = importance.importance_by_norm(adapt(model))
    with torch.no_grad():
        next(iter(heads.of_convolution)).weight[4:8] = 0  # the second convolution head's values
    after = importance.importance_by_norm(adapt(model))
    assert after[0, 3] < before[0, 3]
    after[0, 3] = before[0, 3]
    assert torch.equal(after, before)


def test_a_head_whose_output_is_ignored_costs_nothing():
    model = build("bert")
    with torch.no_grad():
        model.model.encoder.blocks[1].sublayers[0].function.output.weight[:, 8:12] = 0
    table = importance.head_importance(adapt(model), [batch(labels=True)], _score)
    assert float(table.importance["gradient"][1, 2]) == 0
    out = table.importance["leave_one_out"]
    assert float(out[1, 2]) == pytest.approx(0, abs=1e-6)
    assert out.abs().flatten().sort().values[1] > 1e-4


def test_scores_are_those_of_masked_models():
    model = build("convbert")
    layers = adapt(model)
    out, alone = importance.leave_one_out(layers, _score), importance.leave_one_in(layers, _score)
    mask = layers.head_mask()
    mask[2, 3] = 0
    with Surgery(model).mask_heads(mask):
        assert float(out[2, 3]) == pytest.approx(_score(build("convbert")) - _score(model), abs=1e-6)
    mask = layers.head_mask()
    mask[2, :3] = 0
    with Surgery(model).mask_heads(mask):
        assert float(alone[2, 3]) == pytest.approx(_score(model), abs=1e-6)


@each(_SOME)
def test_a_table_has_every_head_once(family):
    model = build(family)
    before = logits(model)
    table = importance.head_importance(adapt(model), [batch(labels=True)], _score)
    layers = adapt(model)
    assert [(row["block"], row["head"]) for row in table.rows()] == list(importance.all_heads(layers))
    assert set(table.rows()[0]) == {"block", "head", "kind", "gradient", "norm", "leave_one_in", "leave_one_out"}
    there = {head for head, _ in table.kinds.items()}
    for values in table.importance.values():
        assert {(int(b), int(h)) for b, h in (~values.isnan()).nonzero()} == there
    kinds = [row["kind"] for row in table.rows() if row["block"] == 0]
    halves = ["attention"] * 2 + ["convolution"] * 2
    assert kinds == (halves if "convbert" in family else ["convolution" if family == "lvbert" else "attention"] * 4)
    assert torch.equal(logits(model), before)


def test_cumulative_masks_leave_out_exactly_the_first_heads_of_an_order():
    layers = adapt(build("lvbert"))
    values = torch.full((6, 4), torch.nan)
    values[0], values[2] = torch.tensor([3.0, 1, 2, 0]), torch.tensor([5.0, 4, 2, 6])
    order = importance.ranked(values)
    assert order == [(2, 3), (2, 0), (2, 1), (0, 0), (0, 2), (2, 2), (0, 1), (0, 3)]
    masks = list(importance.cumulative_masks(layers, order[::-1]))
    assert [int((mask == 0).sum()) for mask in masks] == list(range(1, 9))
    assert {(int(b), int(h)) for b, h in (masks[2] == 0).nonzero()} == {(0, 3), (0, 1), (2, 2)}


@pytest.mark.parametrize("ask, message", [
    (lambda m: importance.importance_by_gradient(adapt(m), [batch()]), "the gradient needs a loss"),
    (lambda m: importance.importance_by_gradient(adapt(m), []), "the gradient needs at least one batch"),
    (lambda m: importance.masked(adapt(m), [(0, 4)]), "head 4 of block 0 is not there: the block has 0 to 3"),
    (lambda m: importance.left_alone(adapt(m), [(3, 0)]), "head 0 of block 3 is not there: the block has none"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(ask, message):
    with pytest.raises(InputError, match=message):
        ask(build("lvbert"))
