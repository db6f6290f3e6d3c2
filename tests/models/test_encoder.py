import math

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig, BertModel, ConvBertConfig, ConvBertModel

import bertkernels.models.auto  # noqa: F401  registers the models
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.nn import Attention, DepthwiseConv1d, DynamicConv, FeedForward, GroupedLinear, MixedAttention

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}


def encoder(**fields) -> EncoderModel:
    torch.manual_seed(0)
    config = EncoderConfig(**{**SIZES, "max_position_embeddings": 24, "initializer_range": 0.2, **fields})
    return EncoderModel(config).eval()


def batch(tokens=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 50, (3, tokens), generator=generator)


def shake(model: nn.Module) -> None:
    """Biases and LayerNorms start at 0 and 1, where a mistake in them would not show."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


# -- structure ---------------------------------------------------------------------------------------------------------


def test_the_plan_becomes_the_modules():
    model = encoder(plan="2*(mixed[head_ratio=4, kernel=5] ffn[groups=2, width=64]) (attention[heads=2] ffn) mixed")
    kinds = [[type(sublayer.function) for sublayer in block.sublayers] for block in model.encoder.blocks]
    assert kinds == [
        [MixedAttention, FeedForward],
        [MixedAttention, FeedForward],
        [Attention, FeedForward],
        [MixedAttention],
    ]
    first, second = (sublayer.function for sublayer in model.encoder.blocks[0].sublayers)
    assert (first.heads, first.head_size, first.depthwise.weight.shape) == (1, 8, (32, 5))
    assert isinstance(second.up, GroupedLinear) and second.up.weight.shape == (2, 16, 32)
    assert model.encoder.blocks[2].sublayers[0].function.output.weight.shape == (32, 16)
    assert model.encoder.blocks[3].sublayers[0].function.heads == 2


def test_dynamic_conv_takes_the_encoders_kernel_size_and_heads_unless_told():
    model = encoder(plan="(dynamic_conv attention) dynamic_conv[kernel=5, heads=3]", conv_kernel_size=7)
    first = model.encoder.blocks[0].sublayers[0].function
    told = model.encoder.blocks[1].sublayers[0].function
    assert isinstance(first, DynamicConv) and isinstance(told, DynamicConv)
    assert (first.heads, first.head_size, first.depthwise.weight.shape) == (4, 8, (32, 7))
    assert (told.heads, told.head_size, told.depthwise.weight.shape) == (3, 8, (24, 5))
    assert [maps.shape[1] for maps in model(batch(), output_attentions=True).attentions] == [4]  # the attention's


@pytest.mark.parametrize(
    "heads, ratio, effective, context",
    [(4, 2, 2, 32), (4, 4, 1, 16), (4, 1, 4, 64), (1, 2, 1, 64), (4, 8, 1, 16), (4, 3, 1, 16)],
)
def test_effective_heads_follow_the_ratio_and_head_size_does_not(heads, ratio, effective, context):
    model = encoder(num_attention_heads=heads, head_ratio=ratio, plan="mixed")
    mixed = model.encoder.blocks[0].sublayers[0].function
    assert mixed.heads == effective and mixed.head_size == 32 // heads
    assert mixed.output.in_features == context
    assert model(batch()).last_hidden_state.shape == (3, 10, 32)


def test_state_names_are_those_that_checkpoints_are_converted_to():
    names = set(encoder(embedding_size=16, plan="mixed (attention ffn) ffn[groups=2]", pooler=True).state_dict())
    assert {
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.norm.weight",
        "embeddings_projection.weight",
        "encoder.blocks.0.sublayers.0.function.conv_value.bias",
        "encoder.blocks.0.sublayers.0.function.depthwise.weight",
        "encoder.blocks.0.sublayers.0.function.pointwise.weight",
        "encoder.blocks.0.sublayers.0.function.conv_kernel.weight",
        "encoder.blocks.1.sublayers.0.function.query.weight",
        "encoder.blocks.1.sublayers.1.function.up.weight",
        "encoder.blocks.1.sublayers.1.norm.bias",
        "encoder.blocks.2.sublayers.0.function.down.bias",
        "pooler.weight",
    } <= names
    assert "encoder.blocks.0.sublayers.0.function.depthwise.bias" not in names


# -- against Hugging Face ----------------------------------------------------------------------------------------------


def copy_linear(ours: nn.Module, theirs: nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())


def copy_embeddings(ours, theirs) -> None:
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        copy_linear(getattr(ours, name), getattr(theirs, name))
    copy_linear(ours.norm, theirs.LayerNorm)


def copy_block(block, layer) -> None:
    attention, ffn = block.sublayers
    for name in ("query", "key", "value"):
        copy_linear(getattr(attention.function, name), getattr(layer.attention.self, name))
    copy_linear(attention.function.output, layer.attention.output.dense)
    copy_linear(attention.norm, layer.attention.output.LayerNorm)
    copy_linear(ffn.function.up, layer.intermediate.dense)
    copy_linear(ffn.function.down, layer.output.dense)
    copy_linear(ffn.norm, layer.output.LayerNorm)


def masks():
    right = torch.ones(3, 10, dtype=torch.long)
    right[1, 6:] = 0
    right[2, 3:] = 0
    return right


@torch.no_grad()
def test_equals_hugging_faces_bert():
    theirs = BertModel(BertConfig(**SIZES, num_hidden_layers=2, max_position_embeddings=24, pad_token_id=0)).eval()
    shake(theirs)
    ours = encoder(plan="2*(attention ffn)", pooler=True)
    copy_embeddings(ours.embeddings, theirs.embeddings)
    for block, layer in zip(ours.encoder.blocks, theirs.encoder.layer, strict=True):
        copy_block(block, layer)
    copy_linear(ours.pooler, theirs.pooler.dense)
    mask, types = masks(), torch.arange(10).expand(3, 10) // 5
    expected = theirs(batch(), mask, types, output_hidden_states=True, output_attentions=True)
    found = ours(batch(), mask, types, output_hidden_states=True, output_attentions=True)
    real = mask.bool()
    for ours_state, theirs_state in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours_state[real], theirs_state[real], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, atol=1e-5, rtol=0)
    eager = BertModel._from_config(theirs.config, attn_implementation="eager").eval()
    eager.load_state_dict(theirs.state_dict())
    maps = eager(batch(), mask, types, output_attentions=True).attentions
    for ours_map, theirs_map in zip(found.attentions, maps, strict=True):
        torch.testing.assert_close(ours_map, theirs_map * mask[:, None, :, None], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("padding", ["reference", "exact"])
def test_equals_hugging_faces_convbert(padding):
    fields = {**SIZES, "embedding_size": 16, "conv_kernel_size": 5, "head_ratio": 2}
    theirs = ConvBertModel(
        ConvBertConfig(**fields, num_groups=2, num_hidden_layers=2, max_position_embeddings=24, pad_token_id=0)
    ).eval()
    shake(theirs)
    ours = encoder(**fields, plan="2*(mixed ffn[groups=2])", padding=padding)
    copy_embeddings(ours.embeddings, theirs.embeddings)
    copy_linear(ours.embeddings_projection, theirs.embeddings_project)
    for block, layer in zip(ours.encoder.blocks, theirs.encoder.layer, strict=True):
        copy_block(block, layer)
        mixed, conv = block.sublayers[0].function, layer.attention.self
        mixed.depthwise.weight.copy_(conv.key_conv_attn_layer.depthwise.weight[:, 0])
        mixed.pointwise.weight.copy_(conv.key_conv_attn_layer.pointwise.weight[:, :, 0])
        mixed.pointwise.bias.copy_(conv.key_conv_attn_layer.bias[:, 0])
        copy_linear(mixed.conv_kernel, conv.conv_kernel_layer)
        copy_linear(mixed.conv_value, conv.conv_out_layer)
    mask = masks()
    if padding == "reference":
        expected = theirs(batch(), mask).last_hidden_state
        torch.testing.assert_close(ours(batch(), mask).last_hidden_state, expected, atol=1e-5, rtol=0)
        return
    found = ours(batch(), mask).last_hidden_state
    for row, length in zip(range(3), mask.sum(1).tolist(), strict=True):
        alone = theirs(batch()[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(found[row, :length], alone, atol=1e-5, rtol=0)


# -- inputs and outputs ------------------------------------------------------------------------------------------------


def test_states_on_request():
    model = encoder(embedding_size=16, plan="(mixed ffn) attention")
    plain = model(batch())
    assert plain.hidden_states is None and plain.attentions is None and plain.sublayer_states is None
    asked = model(batch(), output_hidden_states=True, output_attentions=True, output_sublayer_states=True)
    assert [len(asked.hidden_states), len(asked.sublayer_states), len(asked.attentions)] == [3, 4, 2]
    assert torch.equal(asked.hidden_states[0], asked.sublayer_states[0])
    assert torch.equal(asked.hidden_states[1], asked.sublayer_states[2])
    assert torch.equal(asked.hidden_states[-1], asked.last_hidden_state)
    assert torch.equal(asked.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(plain.pooler_output, plain.last_hidden_state[:, 0])
    assert [tuple(a.shape) for a in asked.attentions] == [(3, 2, 10, 10), (3, 4, 10, 10)]
    for maps in asked.attentions:
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    model.config.output_hidden_states = True
    assert len(model(batch()).hidden_states) == 3
    assert isinstance(model(batch(), return_dict=False), tuple)


def test_inputs_embeds_and_ids_are_the_same_thing():
    model = encoder(embedding_size=16, plan="mixed")
    embeds = model.get_input_embeddings()(batch())
    assert torch.equal(model(batch()).last_hidden_state, model(inputs_embeds=embeds).last_hidden_state)
    positions, types = torch.arange(10)[None], torch.zeros(3, 10, dtype=torch.long)
    explicit = model(batch(), position_ids=positions, token_type_ids=types)
    assert torch.equal(model(batch()).last_hidden_state, explicit.last_hidden_state)
    other = model(batch(), position_ids=positions + 3, token_type_ids=types + 1).last_hidden_state
    assert not torch.allclose(other, explicit.last_hidden_state)


def test_wrong_inputs_are_named():
    model = encoder(plan="mixed")
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(batch(), inputs_embeds=torch.zeros(3, 10, 32))
    with pytest.raises(ValueError, match=r"attention_mask must be \[B, T\] = \[3, 10\], got \[3, 9\]"):
        model(batch(), torch.ones(3, 9))
    with pytest.raises(ValueError, match="25 tokens are longer than max_position_embeddings, 24"):
        model(batch(25))


@pytest.mark.parametrize("tokens", [1, 2, 24])
def test_short_and_full_sequences(tokens):
    model = encoder(plan="mixed[kernel=17] ffn")
    assert model(batch(tokens)).last_hidden_state.isfinite().all()


def test_padding_token_trains():
    model = encoder(plan="mixed")
    model(torch.zeros(1, 3, dtype=torch.long)).last_hidden_state.square().sum().backward()
    assert model.get_input_embeddings().weight.grad[0].abs().sum() > 0


def test_dropout_only_in_training():
    model = encoder(plan="(mixed ffn) (attention ffn)")
    assert torch.equal(model(batch()).last_hidden_state, model(batch()).last_hidden_state)
    model.train()
    assert not torch.equal(model(batch()).last_hidden_state, model(batch()).last_hidden_state)


# -- initialisation ----------------------------------------------------------------------------------------------------


def test_initialisation_is_the_published_one():
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=3000, hidden_size=256, embedding_size=128, num_attention_heads=4, intermediate_size=1024,
        plan="(mixed ffn) (ffn[groups=2] dynamic_conv)", pooler=True,
    )  # fmt: skip
    glorot = {  # what goes in and comes out
        "embeddings_projection.weight": (128, 256),
        "encoder.blocks.1.sublayers.1.function.conv_kernel.weight": (256, 4 * 9),
    }
    model = EncoderModel(config)
    cut = 0.87962566  # standard deviation of a unit normal that is cut at ±2
    for name, parameter in model.named_parameters():
        module = model.get_submodule(name.rpartition(".")[0])
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif isinstance(module, nn.LayerNorm):
            assert (parameter == 1).all(), name
        elif name in glorot:
            bound = math.sqrt(6 / sum(glorot[name]))
            assert bound * 0.99 < parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        else:
            std = 1 / 9 if isinstance(module, DepthwiseConv1d) else 0.02
            assert parameter.abs().max() <= 2 * std * 1.0001, name
            # the standard error of a standard deviation is 1 / √(2n) of it
            off = 5 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(cut * std, rel=off), name


# -- saving, checkpointing, compiling ----------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    model = encoder(embedding_size=16, plan="mixed (attention ffn[groups=2])", pooler=True, padding="reference")
    shake(model)
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    for loaded in (EncoderModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is EncoderModel
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        assert torch.equal(model(batch()).last_hidden_state, loaded.eval()(batch()).last_hidden_state)
    assert EncoderModel.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant):
    grads = []
    mask = masks()
    for checkpointing in (False, True):
        model = encoder(plan="(mixed ffn) (attention ffn)", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        model(batch(), mask, output_hidden_states=not reentrant).last_hidden_state.square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert all(block.gradient_checkpointing == checkpointing for block in model.encoder.blocks)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("padding", ["exact", "reference"])
def test_compiles_to_one_graph_without_packing(backend, padding):
    torch._dynamo.reset()
    model = encoder(embedding_size=16, plan="(mixed ffn[groups=2]) (attention ffn)", padding=padding)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    mask = None if padding == "exact" else masks()
    expected = model(batch(), mask).last_hidden_state
    found = compiled(batch(), mask).last_hidden_state
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    assert model.get_input_embeddings().weight.grad is not None


def test_compiles_with_packing():
    torch._dynamo.reset()
    model = encoder(plan="(mixed ffn)")
    compiled = torch.compile(model, backend="eager")
    for shift in range(3):
        mask = masks().roll(shift, 0)
        mask[0, 4 + shift :] = 0
        expected = model(batch(), mask).last_hidden_state
        torch.testing.assert_close(compiled(batch(), mask).last_hidden_state, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_low_precision(dtype):
    model = encoder(embedding_size=16, plan="(mixed ffn[groups=2]) (attention ffn)")
    expected = model(batch(), masks()).last_hidden_state
    with torch.autocast("cpu", dtype=dtype):
        found = model(batch(), masks()).last_hidden_state
    found.float().square().sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.2, rtol=0)
    low = model.to(dtype)(batch(), masks()).last_hidden_state
    assert low.dtype == dtype
    torch.testing.assert_close(low.float(), expected, atol=0.2, rtol=0)
