"""Exported programs: torch's operations alone, equal to the model for all sizes and masks."""

import copy

import pytest
import torch

import bertkernels
import bertkernels.ops  # noqa: F401
from bertkernels.errors import InputError
from bertkernels.export import to_exported_program
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, ElectraForPreTraining
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import (
    EncoderForMaskedLM,
    EncoderForReplacedTokenDetection,
    EncoderForSequenceClassification,
)
from bertkernels.ops.decompositions import decomposition_table
from tests.hf.conftest import head, make_config, make_model  # noqa: F401

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "embedding_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "initializer_range": 0.2,
}
HEADS = (EncoderForMaskedLM, EncoderForReplacedTokenDetection, EncoderForSequenceClassification)
SHAPES = ((1, 1), (2, 24), (5, 9))


def ours(kind=EncoderModel, **fields):
    torch.manual_seed(0)
    model = kind(EncoderConfig(**SIZES, **{"plan": "(mixed ffn[groups=2]) (attention dynamic_conv)", **fields}))
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at 0, where a lost one would not show
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return model.eval()


def inputs(batch, tokens, choices=None, pattern="right"):
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, tokens) if choices is None else (batch, choices, tokens)
    if pattern == "right":
        mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (*shape[:-1], 1), generator=generator)
    else:
        mask = torch.randint(0, 2, shape, generator=generator).bool()
        mask[..., -1] = True
    return {
        "input_ids": torch.randint(0, 50, shape, generator=generator),
        "attention_mask": mask.long(),
        "token_type_ids": torch.randint(0, 2, shape, generator=generator),
    }


def assert_equal_to_the_model(program, model, shapes=SHAPES, choices=None, patterns=("right",)):
    module = program.module()
    for batch, tokens in shapes:
        for pattern in patterns:
            batch_inputs = inputs(batch, tokens, choices, pattern)
            with torch.no_grad():
                expected, found = model(**batch_inputs), module(**batch_inputs)
            assert list(found) == [name for name, value in expected.items() if isinstance(value, torch.Tensor)]
            for name in found:
                torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4, msg=name)


def assert_nothing_of_ours(program):
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets and not [target for target in targets if "bertkernels" in target]


def test_every_forward_op_has_a_decomposition():
    names = {
        name.split("::")[1]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("bertkernels::") and not name.endswith("_backward")
    }
    assert names == {op._schema.name.split("::")[1] for op in decomposition_table()}


@pytest.mark.parametrize("padding", ["exact", "reference"])
def test_our_encoder(padding):
    model = ours(padding=padding)
    program = to_exported_program(model)
    assert_nothing_of_ours(program)
    assert_equal_to_the_model(program, model, patterns=("right", "any"))


@pytest.mark.parametrize("kind", HEADS)
def test_our_heads(kind):
    model = ours(kind, padding="exact", num_labels=3, plan="ffn")
    program = to_exported_program(model)
    assert_nothing_of_ours(program)
    assert_equal_to_the_model(program, model, patterns=("right", "any"))


def test_heads_of_our_classifier_and_pooler():
    model = ours(EncoderForSequenceClassification, pooler=True, classifier_hidden_act="gelu", plan="mixed ffn")
    assert_equal_to_the_model(to_exported_program(model), model)


def test_patched_hugging_face_models(head, make_model):  # noqa: F811
    model = make_model(head, num_groups=2, embedding_size=16, num_hidden_layers=1)
    bertkernels.patch(model, unpad=True)
    program = to_exported_program(model)
    assert_nothing_of_ours(program)
    choices = 2 if head == "ConvBertForMultipleChoice" else None
    shortest = (1, 1) if choices is None else (2, 2)
    assert_equal_to_the_model(program, model, (shortest, (2, 40), (5, 9)), choices, ("right", "any"))


def test_a_patched_hugging_face_model_that_keeps_padding(make_model):  # noqa: F811
    model = make_model("ConvBertForTokenClassification", num_groups=2, embedding_size=16, num_hidden_layers=1)
    bertkernels.patch(model)
    program = to_exported_program(model)
    assert_nothing_of_ours(program)
    assert_equal_to_the_model(program, model, ((1, 1), (2, 40), (5, 9)))


def test_a_program_can_be_trained_further():
    model = ours(plan="mixed ffn dynamic_conv")
    program = to_exported_program(model)
    copied = copy.deepcopy(program).module()
    batch = inputs(3, 9)
    for run in (model, copied):
        run(**batch)["last_hidden_state"].square().sum().backward()
    found = {name.removeprefix("model."): p.grad for name, p in copied.named_parameters() if p.grad is not None}
    assert len(found) == sum(p.grad is not None for p in model.parameters())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-3, rtol=1e-3, msg=name)


def test_the_model_is_left_as_it_was():
    model = ours(plan="mixed").train()
    to_exported_program(model)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_torch_export_itself_takes_a_model_with_exact_padding():
    model = ours(plan="mixed ffn")
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=24)}
    given = {"input_ids": inputs(3, 7)["input_ids"], "attention_mask": inputs(3, 7)["attention_mask"]}
    program = torch.export.export(model, (), given, dynamic_shapes=dict.fromkeys(given, dims))
    batch = {name: x for name, x in inputs(5, 12, pattern="any").items() if name in given}
    found = program.module()(**batch).last_hidden_state
    torch.testing.assert_close(found, model(**batch).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_a_pair_is_refused():
    pair = ElectraForPreTraining(ElectraConfig(discriminator=EncoderConfig(**SIZES, plan="mixed")))
    with pytest.raises(InputError, match="ElectraForPreTraining cannot be exported: it must run on input_ids, att"):
        to_exported_program(pair)
