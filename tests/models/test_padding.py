"""What padding may do to real tokens: nothing under "exact", what the released code lets it do under "reference"."""

import pytest
import torch

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel

PLANS = ["2*(mixed ffn[groups=2])", "2*(attention ffn)", "mixed[kernel=17] attention[heads=2] mixed[kernel=4]"]
PLANS += ["dynamic_conv ffn dynamic_conv[kernel=4, heads=3]"]
TOKENS = 12
MASKS = {
    "right": [[1] * 12, [1] * 7 + [0] * 5, [1] * 2 + [0] * 10],
    "left": [[1] * 12, [0] * 5 + [1] * 7, [0] * 10 + [1] * 2],
    "holes": [[1, 0] * 6, [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1], [1] * 12],
    "no full row": [[1] * 5 + [0] * 7, [1] * 3 + [0] * 9, [1] + [0] * 11],
    "an empty row": [[1] * 12, [0] * 12, [1] * 4 + [0] * 8],
}


def encoder(plan, padding, **fields):
    torch.manual_seed(0)
    config = EncoderConfig(
        **{
            **{"vocab_size": 50, "hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4},
            **{"intermediate_size": 48, "max_position_embeddings": TOKENS, "initializer_range": 0.3},
            **{"plan": plan, "padding": padding, **fields},
        }
    )
    return EncoderModel(config).eval()


def ids(seed=0):
    return torch.randint(0, 50, (3, TOKENS), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=MASKS)
def mask(request):
    return torch.tensor(MASKS[request.param])


@pytest.mark.parametrize("plan", PLANS)
def test_exact_rows_are_what_they_are_alone(plan, mask):
    model = encoder(plan, "exact")
    found = model(ids(), mask, output_hidden_states=True)
    for row in range(3):
        real = mask[row].bool()
        assert (found.last_hidden_state[row, ~real] == 0).all()
        if not real.any():
            continue
        alone = model(ids()[row, real][None], output_hidden_states=True)
        for ours, theirs in zip(found.hidden_states, alone.hidden_states, strict=True):
            torch.testing.assert_close(ours[row, real], theirs[0], atol=2e-6, rtol=0)
        torch.testing.assert_close(found.pooler_output[row], alone.pooler_output[0], atol=2e-6, rtol=0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("plan", PLANS)
def test_exact_looks_at_nothing_that_stands_at_padding(plan, mask, training):
    """Ids, types and positions there may be any numbers, also such as no table has."""
    model = encoder(plan, "exact").train(training)  # dropout included
    padding = mask == 0
    types, positions = ids(4) % 2, torch.arange(TOKENS).expand(3, -1)
    weights = torch.randn(3, TOKENS, 32, generator=torch.Generator().manual_seed(3))
    results = []
    for garbage in (False, True):
        given = [x.masked_fill(padding, -100 if garbage else 0) for x in (ids(), types, positions)]
        model.zero_grad()
        torch.manual_seed(5)
        out = model(given[0], mask, *given[1:]).last_hidden_state
        (out * weights).sum().backward()
        results.append([out, *(p.grad for p in model.parameters() if p.grad is not None)])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("plan", PLANS)
def test_exact_batches_of_one(plan, mask):
    model = encoder(plan, "exact")
    together = model(ids(), mask).last_hidden_state
    for row in range(3):
        single = model(ids()[row : row + 1], mask[row : row + 1]).last_hidden_state
        torch.testing.assert_close(single[0], together[row], atol=2e-6, rtol=0)


def test_exact_takes_the_positions_that_are_given(mask):
    model = encoder("mixed", "exact")
    positions = torch.arange(TOKENS).flip(0)[None]
    found = model(ids(), mask, position_ids=positions).last_hidden_state
    for row, real in enumerate(mask.bool()):
        if real.any():
            alone = model(ids()[row, real][None], position_ids=positions[:, real]).last_hidden_state
            torch.testing.assert_close(found[row, real], alone[0], atol=2e-6, rtol=0)


def test_exact_counts_real_tokens_against_the_longest_sequence():
    """Padding may make a batch wider than the table of positions is long."""
    model = encoder("mixed", "exact")
    wide = torch.zeros(2, 3 * TOKENS, dtype=torch.long)
    mask = torch.zeros_like(wide)
    mask[:, -TOKENS:] = 1
    assert model(wide, mask).last_hidden_state.shape == (2, 3 * TOKENS, 32)
    mask[0, 0] = 1
    with pytest.raises(ValueError, match=f"sequences of {TOKENS + 1} tokens are longer than max_position_embeddings"):
        model(wide, mask)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("plan", PLANS)
def test_exact_keeps_nan_in_padding_out_of_states_and_gradients(plan, mask, training):
    model = encoder(plan, "exact").train(training)
    weights = torch.randn(3, TOKENS, 32, generator=torch.Generator().manual_seed(3))
    embeds = model.get_input_embeddings()(ids()).detach()
    grads = []
    for padding in (0.0, float("nan")):
        given = embeds.masked_fill(~mask.bool()[..., None], padding).requires_grad_()
        model.zero_grad()
        torch.manual_seed(5)
        out = model(inputs_embeds=given, attention_mask=mask, output_attentions=True)
        assert out.last_hidden_state.isfinite().all() and all(maps.isfinite().all() for maps in out.attentions)
        (out.last_hidden_state * weights).sum().backward()
        grads.append([given.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    for clean, poisoned in zip(*grads, strict=True):
        assert torch.equal(clean, poisoned)


def test_exact_attention_maps_are_zero_at_padding(mask):
    real = mask.bool()
    for maps in encoder("mixed attention", "exact")(ids(), mask, output_attentions=True).attentions:
        assert maps.shape[2:] == (TOKENS, TOKENS)
        assert (maps * ~(real[:, None, :, None] & real[:, None, None, :]) == 0).all()
        torch.testing.assert_close(maps.sum(-1), real[:, None, :].expand(maps.shape[:3]).float())


def test_exact_training_equals_rows_alone(mask):
    model = encoder("(mixed ffn[groups=2]) (attention ffn)", "exact")
    weights = torch.randn(3, TOKENS, 32, generator=torch.Generator().manual_seed(3))
    (model(ids(), mask).last_hidden_state * weights).sum().backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in range(3):
        real = mask[row].bool()
        if real.any():
            alone = model(ids()[row, real][None]).last_hidden_state
            (alone * weights[row, real]).sum().backward()
    largest = max(grad.abs().max().item() for grad in packed.values())
    for name, grad in packed.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, atol=1e-6 * largest, rtol=1e-5, msg=name)


@pytest.mark.parametrize("padding", ["exact", "reference"])
@pytest.mark.parametrize("plan", PLANS)
def test_no_row_makes_nan(plan, padding):
    model = encoder(plan, padding)
    for rows in (MASKS["an empty row"], [[0] * TOKENS] * 3):
        out = model(ids(), torch.tensor(rows), output_attentions=True)
        assert out.last_hidden_state.isfinite().all() and all(maps.isfinite().all() for maps in out.attentions)
        out.last_hidden_state.sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("padding", ["exact", "reference"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int32, torch.float32])
def test_a_mask_of_ones_is_no_mask(padding, dtype):
    model = encoder(PLANS[0], padding)
    expected = model(ids()).last_hidden_state
    assert torch.equal(model(ids(), torch.ones(3, TOKENS, dtype=dtype)).last_hidden_state, expected)


def test_mask_dtypes_agree(mask):
    model = encoder(PLANS[0], "exact")
    expected = model(ids(), mask).last_hidden_state
    for dtype in (torch.bool, torch.int32, torch.float32):
        assert torch.equal(model(ids(), mask.to(dtype)).last_hidden_state, expected)


def reference_mixed(function, x, mask):
    """ConvBERT's mixed attention with padding in the convolutions, written out with torch's own layers."""
    heads, width = function.heads, function.head_size
    taps = function.depthwise.weight.shape[1]
    left, right = (taps - 1) // 2, taps - 1 - (taps - 1) // 2

    def split(y):
        return y.unflatten(-1, (heads, width)).transpose(1, 2)  # [B, H, T, D]

    def windows(y):
        return torch.nn.functional.pad(y, (0, 0, left, right)).unfold(-2, taps, 1)  # […, T, C, K]

    span = function.pointwise((windows(x) * function.depthwise.weight).sum(-1))
    kernel = function.conv_kernel(span * function.query(x)).unflatten(-1, (heads, taps)).softmax(-1)  # [B, T, H, K]
    convolved = (windows(split(function.conv_value(x))) * kernel.transpose(1, 2)[:, :, :, None]).sum(-1)  # [B, H, T, D]
    scores = split(function.query(x)) @ split(function.key(x)).transpose(-1, -2) / width**0.5
    scores = scores + (1 - mask[:, None, None, :]) * -10000.0
    attended = scores.softmax(-1) @ split(function.value(x))
    return function.output(torch.cat((attended, convolved), dim=1).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("taps", [9, 4, 17])
def test_reference_is_the_released_formula(taps, mask):
    model = encoder(f"2*(mixed[kernel={taps}] ffn)", "reference").double()  # in fp32 -10000 rounds the scores
    found = model(ids(), mask, output_sublayer_states=True)
    x = found.sublayer_states[0]
    for index, sublayer in enumerate(sub for block in model.encoder.blocks for sub in block.sublayers):
        is_mixed = index % 2 == 0
        out = reference_mixed(sublayer.function, x, mask) if is_mixed else sublayer.function(x)
        x = sublayer.norm(x + out)
        torch.testing.assert_close(found.sublayer_states[index + 1], x, atol=1e-10, rtol=0)


def test_reference_reads_padding_in_convolutions_only():
    mask = torch.tensor(MASKS["right"])
    other = torch.where(mask.bool(), ids(), ids(1))
    for plan, reads in (("mixed", True), ("dynamic_conv", True), ("attention", False)):
        model = encoder(plan, "reference")
        first, second = (model(batch, mask).last_hidden_state[mask.bool()] for batch in (ids(), other))
        assert torch.equal(first, second) != reads
