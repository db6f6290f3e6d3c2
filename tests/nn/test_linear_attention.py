"""Linear attention against its formula, token by token, whatever masks what; `test_sublayers.py` has the rest."""

import pytest
import torch
from torch.nn.functional import dropout

from bertkernels.nn import Layout, LinearAttention

B, T, C, H = 3, 7, 12, 3
LENGTHS = torch.tensor([7, 4, 1], dtype=torch.int32)
REAL = torch.arange(T) < LENGTHS[:, None]  # [B, T]


def make(p=0.0):
    torch.manual_seed(0)
    return LinearAttention(C, heads=H, dropout=p).double()


def inputs():
    return torch.randn(B, T, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(module, x, mask):
    """Σ_j mask_ij (query_i · key_j / √D) value_j, every sum a loop; mask [B, T, T] of numbers."""
    parts = [layer(x).unflatten(-1, (H, -1)) for layer in (module.query, module.key, module.value)]
    query, key, value = parts  # [B, T, H, D]
    context = torch.zeros_like(query)
    for i in range(T):
        for j in range(T):
            weight = (query[:, i] * key[:, j]).sum(-1) * (C // H) ** -0.5 * mask[:, i, j, None]  # [B, H]
            context[:, i] = context[:, i] + weight[..., None] * value[:, j]
    return module.output(context.flatten(-2))


BY_KEY = REAL[:, None, None, :]
BY_PAIR = BY_KEY & torch.ones(T, T, dtype=torch.bool).tril()
MASKS = {
    "none": None,
    "bool": BY_KEY,
    "additive": torch.zeros(B, 1, 1, T, dtype=torch.float64).masked_fill(~BY_KEY, -10_000.0),
    "-inf": torch.zeros(B, 1, 1, T, dtype=torch.float64).masked_fill(~BY_KEY, float("-inf")),
    "additive, soft": torch.linspace(-1, 1, B * T, dtype=torch.float64).view(B, 1, 1, T),
    "bool, by pair": BY_PAIR,
    "additive, by pair": torch.zeros(B, 1, T, T, dtype=torch.float64).masked_fill(~BY_PAIR, -10_000.0),
}


@pytest.mark.parametrize("name", MASKS)
def test_is_its_formula(name):
    module, x, mask = make().eval(), inputs().requires_grad_(), MASKS[name]
    numbers = torch.ones(B, T, T, dtype=torch.float64)
    if mask is not None:
        numbers = (mask.double() if mask.dtype == torch.bool else mask.exp())[:, 0].expand(B, T, T)
    expected = by_hand(module, x, numbers)
    found = module(x, Layout(attention_mask=mask))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0], atol=1e-10, rtol=1e-10)


def test_its_maps_are_the_weights_that_it_uses():
    module, x = make().eval(), inputs()
    layout = Layout(attention_mask=BY_KEY)
    maps = module.attention_probs(x, layout)  # [B, H, T, T]
    assert not maps.masked_select(~BY_KEY).any() and (maps < 0).any()
    value = module.value(x).unflatten(-1, (H, -1)).transpose(1, 2)  # [B, H, T, D]
    context = (maps @ value).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(module.output(context), module(x, layout))
    with pytest.raises(ValueError, match="padded form"):
        module.attention_probs(x[0], Layout(cu_seqlens=torch.tensor([0, T], dtype=torch.int32)))


def test_dropout_falls_on_the_weights_in_training():
    module, x = make(0.5), inputs()
    torch.manual_seed(5)
    found = module(x)
    torch.manual_seed(5)
    weights = dropout(module.attention_probs(x), 0.5)
    value = module.value(x).unflatten(-1, (H, -1)).transpose(1, 2)
    torch.testing.assert_close(found, module.output((weights @ value).transpose(1, 2).flatten(-2)))
    assert torch.equal(module.eval()(x), module(x)) and not torch.allclose(module(x), found)


def test_packed_sequences_with_dropout_read_their_own_tokens_alone():
    module, x = make(0.5), inputs()
    ends = torch.tensor([0, 7, 11, 12], dtype=torch.int32)
    packed = x[REAL]
    packed[7:] = float("nan")
    assert module(packed, Layout(cu_seqlens=ends))[:7].isfinite().all()
