"""Inside `static_shapes()` models that leave padding out compute the same, and no shape depends on a mask."""

import pytest
import torch

import bertkernels
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import Alignment, pack_mask, shapes_are_static, static_shapes
from bertkernels.nn.packing import align_mask
from tests.hf.conftest import make_config, make_model  # noqa: F401

TOKENS = 9
MASKS = {
    "right": [[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8],
    "left": [[0] * 4 + [1] * 5, [0] * 8 + [1], [1] * 9],
    "holes": [[1, 0] * 4 + [1], [0, 1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 1, 1, 1, 1]],
    "an empty row": [[0] * 9, [1] * 9, [1] * 3 + [0] * 6],
    "all real": [[1] * 9] * 3,
}
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "initializer_range": 0.2,
}


@pytest.fixture(params=MASKS)
def mask(request):
    return torch.tensor(MASKS[request.param])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return EncoderModel(
        EncoderConfig(**SIZES, plan="(mixed ffn[groups=2]) (attention ffn) (dynamic_conv mixed[kernel=5])")
    ).eval()


def token_ids():
    return torch.randint(1, 50, (3, TOKENS), generator=torch.Generator().manual_seed(1))


def gradients_of(model, *inputs, **options):
    model.zero_grad(set_to_none=True)
    out = model(*inputs, **options).last_hidden_state
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    (out * weights).sum().backward()
    named = ((name.removeprefix("_orig_mod."), parameter.grad) for name, parameter in model.named_parameters())
    return {name: gradient.clone() for name, gradient in named if gradient is not None}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    largest = max(gradient.norm() for gradient in expected.values())
    for name, gradient in expected.items():  # that of a key's bias is zero but for rounding
        assert (found[name] - gradient).norm() < 1e-5 * max(gradient.norm(), 1e-2 * largest), name


# -- alignment ---------------------------------------------------------------------------------------------------------


def test_alignment_moves_real_tokens_to_the_front(mask):
    mask = mask.bool()
    alignment = align_mask(mask)
    assert alignment.layout.lengths.dtype == torch.int32
    assert alignment.layout.lengths.tolist() == mask.sum(1).tolist()
    for shape in ((3, TOKENS), (3, TOKENS, 2), (3, TOKENS, 2, 4)):
        x = torch.randn(shape)
        packed = alignment.pack(x)
        for row in range(3):
            count = int(mask[row].sum())
            assert torch.equal(packed[row, :count], x[row, mask[row]])
            assert (packed[row, count:] == 0).all()
        back = alignment.unpack(packed)
        assert torch.equal(back[mask], x[mask]) and (back[~mask] == 0).all()
        assert torch.equal(alignment.unpack(torch.full_like(x, torch.nan))[~mask], back[~mask])


def test_the_context_is_left_as_it_was():
    assert not shapes_are_static()
    with static_shapes(), static_shapes():
        assert shapes_are_static()
        assert isinstance(pack_mask(torch.ones(2, 3, dtype=torch.bool)), Alignment)
    assert not shapes_are_static()
    with pytest.raises(KeyError), static_shapes():
        raise KeyError
    assert not shapes_are_static()


# -- the same results --------------------------------------------------------------------------------------------------


def test_encoder_computes_the_same(encoder, mask):
    options = {"output_hidden_states": True, "output_attentions": True}
    expected = encoder(token_ids(), mask, **options)
    gradients = gradients_of(encoder, token_ids(), mask)
    with static_shapes():
        found = encoder(token_ids(), mask, **options)
        torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=2e-6, rtol=1e-5)
        found = gradients_of(encoder, token_ids(), mask)
    assert_same_gradients(found, gradients)


@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True}, {"output_attentions": True}])
def test_unpadded_hugging_face_model_computes_the_same(options, mask, make_model):  # noqa: F811
    model = make_model(num_groups=2, embedding_size=16)
    bertkernels.patch(model, unpad=True)
    expected = model(token_ids(), mask, **options)
    gradients = gradients_of(model, token_ids(), mask, **options)
    with static_shapes():
        found = model(token_ids(), mask, **options)
        torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=2e-6, rtol=1e-5)
        found = gradients_of(model, token_ids(), mask, **options)
    assert_same_gradients(found, gradients)


def test_nan_at_padding_reaches_nothing(encoder, mask):
    embeds = encoder.get_input_embeddings()(token_ids()).detach()
    garbage = embeds.masked_fill(mask[..., None] == 0, torch.nan)
    with static_shapes():
        clean, dirty = (gradients_of(encoder, None, mask, inputs_embeds=x) for x in (embeds, garbage))
        expected = encoder(None, mask, inputs_embeds=embeds).last_hidden_state
        assert torch.equal(encoder(None, mask, inputs_embeds=garbage).last_hidden_state, expected)
    for name, gradient in clean.items():
        assert torch.equal(dirty[name], gradient), name


# -- nothing is read back ----------------------------------------------------------------------------------------------
# Tensors on the "meta" device have shapes and no contents: whatever asks for a content, or for a size that depends on
# one, fails. So this is what a GPU is never waited for in, and what a CUDA graph can hold.


@pytest.mark.parametrize("padding", ["exact", "reference"])
def test_no_contents_are_read(padding):
    plan = "(mixed ffn[groups=2]) (attention ffn)"
    model = EncoderModel(EncoderConfig(**SIZES, plan=plan, padding=padding)).to("meta")
    inputs = torch.empty(3, TOKENS, dtype=torch.long, device="meta"), torch.ones(3, TOKENS, device="meta")
    with static_shapes():
        model(*inputs).last_hidden_state.sum().backward()
    if padding == "exact":
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            model(*inputs)


def test_no_contents_are_read_in_pretraining():
    config = EncoderConfig(**SIZES, plan="mixed ffn")
    model = ElectraForPreTraining(ElectraConfig(discriminator=config)).to("meta")
    ids, draws = (torch.empty(3, size, dtype=torch.long, device="meta") for size in (TOKENS, 2))
    with static_shapes():
        model(ids, draws, draws, draws.float(), attention_mask=ids, token_type_ids=ids).loss.backward()


@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("head", ["ConvBertForMaskedLM", "ConvBertForSequenceClassification"])
def test_no_contents_are_read_in_hugging_face_models(head, unpad, make_model):  # noqa: F811
    model = make_model(head)
    bertkernels.patch(model, unpad=unpad)
    model.to("meta")
    ids = torch.empty(3, TOKENS, dtype=torch.long, device="meta")
    with static_shapes():
        model(ids, ids).logits.sum().backward()


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def random_mask(batch, tokens):
    generator = torch.Generator().manual_seed(batch)
    mask = torch.randint(0, 2, (batch, tokens), generator=generator)
    mask[:, 0] = 1
    return mask


@pytest.mark.parametrize(
    ("kind", "gradients"),
    [("exact", False), ("exact", True), ("reference", False), ("unpadded Hugging Face", True)],
)
def test_one_graph_for_all_sizes(kind, gradients, make_model, fresh_compiler):  # noqa: F811
    torch.manual_seed(0)
    if kind == "unpadded Hugging Face":
        model = make_model(num_hidden_layers=1)
        bertkernels.patch(model, unpad=True)
    else:
        model = EncoderModel(EncoderConfig(**SIZES, plan="(mixed ffn[groups=2]) (attention ffn)", padding=kind)).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for number, (batch, tokens) in enumerate(((3, 10), (5, 7), (2, 20), (4, 4))):
        ids = torch.randint(1, 50, (batch, tokens), generator=torch.Generator().manual_seed(number))
        mask = random_mask(batch, tokens)
        expected = model(ids, mask).last_hidden_state
        expected_gradients = gradients_of(model, ids, mask) if gradients else None
        stance = "fail_on_recompile" if number else "default"
        with static_shapes(), torch.set_grad_enabled(gradients), torch.compiler.set_stance(stance):
            found = compiled(ids, mask).last_hidden_state
            found_gradients = gradients_of(compiled, ids, mask) if gradients else None
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
        if gradients:
            assert_same_gradients(found_gradients, expected_gradients)
