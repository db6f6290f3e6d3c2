"""LV-BERT's checkpoints do not hold the order of their sub-layers: it is worked out from the variables of each place.

Outputs are compared with an fp64 NumPy encoder that reads the variables under their TensorFlow names.
"""

import json
from math import erf, sqrt

import numpy as np
import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.convert.to_huggingface import their_model

KINDS = ("dynamic_conv", "attention", "ffn")
RELEASED = [0, 0, 1, 2, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 0, 2, 1, 0, 2, 0, 1, 1, 2, 1]
HIDDEN, HEADS, WIDE, TAPS, VOCABULARY = 24, 4, 40, 5, 30


def make_variables(order, narrow=HIDDEN, taps=TAPS, seed=0):
    """Random variables of an encoder of these sub-layers, as the released LV-BERT names and shapes them."""
    generator = np.random.default_rng(seed)
    variables = {}

    def add(name, *shape, offset=0.0):
        scale = 1 / sqrt(shape[-2] if len(shape) > 1 else 10)
        variables[name] = (offset + scale * generator.normal(size=shape)).astype("f4")

    def dense(name, size_in, size_out):
        add(f"{name}/kernel", size_in, size_out)
        add(f"{name}/bias", size_out)

    def norm(name, size):
        add(f"{name}/gamma", size, offset=1.0)
        add(f"{name}/beta", size)

    for table, rows in (("word", VOCABULARY), ("position", 16), ("token_type", 2)):
        add(f"electra/embeddings/{table}_embeddings", rows, narrow)
    norm("electra/embeddings/LayerNorm", narrow)
    if narrow != HIDDEN:
        dense("electra/embeddings_project", narrow, HIDDEN)
    for index, number in enumerate(order):
        place = scope(index)
        if KINDS[number] == "ffn":
            dense(f"{place}/intermediate/dense", HIDDEN, WIDE)
            output, width = f"{place}/output", WIDE
        elif KINDS[number] == "attention":
            for role in ("query", "key", "value"):
                dense(f"{place}/attention/self/{role}", HIDDEN, HIDDEN)
            output, width = f"{place}/attention/output", HIDDEN
        else:
            convolution = f"{place}/dynamic_convolution_layer/convolution"
            dense(f"{convolution}/glu_l", HIDDEN, HIDDEN)
            dense(f"{convolution}/glu_g", HIDDEN, HIDDEN)
            add(f"{convolution}/conv_attn_key/depthwise_kernel", taps, HIDDEN, 1)
            add(f"{convolution}/conv_attn_key/pointwise_kernel", 1, HIDDEN, HIDDEN)
            add(f"{convolution}/conv_attn_key/bias", HIDDEN)
            dense(f"{convolution}/conv_attn_kernel", HIDDEN, HEADS * taps)
            output, width = f"{place}/dynamic_convolution_layer/output", HIDDEN
        dense(f"{output}/dense", width, HIDDEN)
        norm(f"{output}/LayerNorm", HIDDEN)
    return variables


def scope(index):
    return f"electra/encoder/layer_{index // 2}/{('first', 'second')[index % 2]}_submodule"


def shapes_of(variables):
    return {name: array.shape for name, array in variables.items()}


def reference_states(variables, order, ids, mask):
    """The states [B, T, C] behind the embeddings and behind every sub-layer, in fp64."""
    variables = {name: array.astype("f8") for name, array in variables.items()}
    gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / sqrt(2))))

    def softmax(x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    def norm(name, x):
        normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return normal * variables[f"{name}/gamma"] + variables[f"{name}/beta"]

    def dense(name, x):
        return x @ variables[f"{name}/kernel"] + variables[f"{name}/bias"]

    def split(x):
        return x.reshape(*x.shape[:2], HEADS, -1)

    def attention(place, x):
        query, key, value = (split(dense(f"{place}/self/{role}", x)) for role in ("query", "key", "value"))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / sqrt(HIDDEN // HEADS)
        maps = softmax(scores - 10000.0 * (1 - mask[:, None, None, :]))
        return dense(f"{place}/output/dense", np.einsum("bhqk,bkhd->bqhd", maps, value).reshape(x.shape))

    def dynamic_conv(place, x):
        convolution = f"{place}/convolution"
        gated = dense(f"{convolution}/glu_l", x) / (1 + np.exp(-dense(f"{convolution}/glu_g", x)))
        kernel = variables[f"{convolution}/conv_attn_key/depthwise_kernel"][:, :, 0]  # [K, C]
        taps, left = len(kernel), (len(kernel) - 1) // 2
        padded = np.pad(gated, [(0, 0), (left, taps - 1 - left), (0, 0)])
        windows = np.stack([padded[:, tap : tap + x.shape[1]] for tap in range(taps)], axis=2)  # [B, T, K, C]
        span = (windows * kernel).sum(2) @ variables[f"{convolution}/conv_attn_key/pointwise_kernel"][0]
        span = span + variables[f"{convolution}/conv_attn_key/bias"]
        kernels = softmax(dense(f"{convolution}/conv_attn_kernel", span).reshape(*x.shape[:2], HEADS, taps))
        heads = windows.reshape(*windows.shape[:3], HEADS, -1)
        return dense(f"{place}/output/dense", np.einsum("bthk,btkhd->bthd", kernels, heads).reshape(x.shape))

    def ffn(place, x):
        return dense(f"{place}/output/dense", gelu(dense(f"{place}/intermediate/dense", x)))

    tables = "electra/embeddings"
    x = variables[f"{tables}/word_embeddings"][ids] + variables[f"{tables}/token_type_embeddings"][0]
    x = norm(f"{tables}/LayerNorm", x + variables[f"{tables}/position_embeddings"][: ids.shape[1]])
    if "electra/embeddings_project/kernel" in variables:
        x = dense("electra/embeddings_project", x)
    states = [x]
    for index, number in enumerate(order):
        part, function = (("dynamic_convolution_layer", dynamic_conv), ("attention", attention), ("", ffn))[number]
        place = f"{scope(index)}/{part}".rstrip("/")
        states.append(norm(f"{place}/output/LayerNorm", states[-1] + function(place, states[-1])))
    return states


def batch():
    ids = np.random.default_rng(5).integers(1, VOCABULARY, (3, 11))
    lengths = np.array([11, 6, 1])
    return ids, (np.arange(11) < lengths[:, None]).astype("f8")


ORDERS = {
    "released": RELEASED,
    "convolutions alone": [0, 0],
    "feed-forward alone": [2, 2],
    "no convolution": [1, 2, 2, 1],
    "one pair": [2, 0],
    "another": [1, 0, 2, 1, 0, 2],
}


@pytest.mark.parametrize("narrow", [HIDDEN, 8])
@pytest.mark.parametrize("name", ORDERS)
def test_order_and_states(name, narrow):
    order = ORDERS[name]
    variables = make_variables(order, narrow)
    heads = None if 0 in order or 1 not in order else HEADS
    plan = plan_variables(shapes_of(variables), num_attention_heads=heads)
    blocks = plan.config.parsed_plan.blocks
    assert [[sublayer.kind for sublayer in block.sublayers] for block in blocks] == [
        [KINDS[first], KINDS[second]] for first, second in zip(order[::2], order[1::2], strict=True)
    ]
    assert {variable.name for variable in plan.variables.values()} == set(variables)
    assert plan.config.padding == "reference" and plan.config.embedding_size == narrow
    model = convert_variables(plan, variables).double()
    ids, mask = batch()
    with torch.no_grad():
        found = model(torch.tensor(ids), torch.tensor(mask), output_sublayer_states=True).sublayer_states
    for ours, theirs in zip(found, reference_states(variables, order, ids, mask), strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-6


def test_taps_and_widths_that_differ_go_into_the_plan():
    variables = make_variables([0, 2, 0, 2])
    wider = make_variables([0, 2, 0, 2], taps=7)
    layer = "electra/encoder/layer_1/first_submodule"
    shapes = shapes_of(variables) | {name: shape for name, shape in shapes_of(wider).items() if name.startswith(layer)}
    second = "electra/encoder/layer_1/second_submodule"
    shapes[f"{second}/intermediate/dense/kernel"], shapes[f"{second}/intermediate/dense/bias"] = (HIDDEN, 16), (16,)
    shapes[f"{second}/output/dense/kernel"] = (16, HIDDEN)
    config = plan_variables(shapes).config
    assert config.plan == "(dynamic_conv ffn) (dynamic_conv[kernel=7] ffn[width=16])"
    assert (config.conv_kernel_size, config.intermediate_size, config.num_attention_heads) == (TAPS, WIDE, HEADS)


# -- checkpoints that fit no plan --------------------------------------------------------------------------------------


def test_places_with_no_kind_and_with_two():
    shapes = shapes_of(make_variables([0, 1, 2, 0, 1, 2]))
    empty, crowded = scope(2), scope(5)
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith(f"{empty}/")}
    shapes |= {f"{crowded}/attention/self/query/kernel": (HIDDEN, HIDDEN)}
    shapes |= {f"{scope(6)}/attention/self/query/kernel": (HIDDEN, HIDDEN)}
    with pytest.raises(InputError) as error:
        plan_variables(shapes, source="lv.ckpt")
    message = str(error.value)
    assert message.startswith("lv.ckpt fits no plan: not one kind of sub-layer in each place: ")
    assert f"{empty} holds none" in message and f"{crowded} holds attention and ffn" in message
    assert f"{scope(7)} holds none" in message and message.count("holds") == 3


def test_a_layer_between_others_that_is_missing():
    shapes = shapes_of(make_variables([0, 1, 2, 0, 1, 2]))
    shapes = {name: shape for name, shape in shapes.items() if "/layer_1/" not in name}
    with pytest.raises(InputError, match=r"layer_1/first_submodule holds none; .*layer_1/second_submodule holds none"):
        plan_variables(shapes)


def test_variables_that_a_kind_lacks_or_does_not_know():
    shapes = shapes_of(make_variables([0, 1]))
    del shapes[f"{scope(0)}/dynamic_convolution_layer/convolution/glu_g/bias"]
    shapes[f"{scope(1)}/attention/self/ghost/kernel"] = (3, 3)
    shapes["electra/encoder/layer_0/third_submodule/intermediate/dense/kernel"] = (3, 3)
    with pytest.raises(InputError) as error:
        plan_variables(shapes)
    message = str(error.value)
    assert f"1 missing ({scope(0)}/dynamic_convolution_layer/convolution/glu_g/bias)" in message
    assert "2 unexpected" in message and "ghost" in message and "third_submodule" in message


def test_kernels_that_fit_no_heads():
    shapes = shapes_of(make_variables([0, 1]))
    convolution = f"{scope(0)}/dynamic_convolution_layer/convolution"
    shapes[f"{convolution}/conv_attn_kernel/kernel"] = (HIDDEN, 21)
    with pytest.raises(InputError, match=r"5 taps \(conv_attn_key\), 21 kernel weights .* 24 channels \(glu_l\)"):
        plan_variables(shapes)


# -- what is said beside the checkpoint --------------------------------------------------------------------------------


def known(tmp_path, content):
    path = tmp_path / "described.json"
    path.write_text(json.dumps(content))
    return read_known_sizes(path)


@pytest.mark.parametrize(
    "content",
    [
        {"bert_config": {"num_attention_heads": HEADS}, "custom_layer_list": [0, 1, 2, 2]},
        {"discriminator_bert_config": {}, "pretraining_kwargs": {"custom_layer_list": [0, 1, 2, 2, 0]}},
        {"model_hparam_overrides": {"hidden_size": HIDDEN}, "custom_layer_list": [0, 1, 2, 2]},
    ],
)
def test_an_order_that_is_said_must_be_that_of_the_variables(content, tmp_path):
    assert plan_variables(shapes_of(make_variables([0, 1, 2, 2])), known(tmp_path, content)).config.plan
    with pytest.raises(InputError, match=r"custom_layer_list is 0,1,2,2 in .*described.json but 0,1,2,1 here"):
        plan_variables(shapes_of(make_variables([0, 1, 2, 1])), known(tmp_path, content))


@pytest.mark.parametrize("order", ["012", [0, 3], [True, 0], 5])
def test_an_order_that_is_none(order, tmp_path):
    with pytest.raises(InputError, match="custom_layer_list in .* must be a list of 0, 1 and 2"):
        known(tmp_path, {"bert_config": {}, "custom_layer_list": order})


def test_sizes_that_contradict_the_variables(tmp_path):
    shapes = shapes_of(make_variables([0, 1, 2, 1]))
    said = {"hidden_size": HIDDEN, "num_attention_heads": 3, "intermediate_size": 96, "num_hidden_layers": 4}
    with pytest.raises(InputError) as error:
        plan_variables(shapes, known(tmp_path, said))
    for part in ("num_attention_heads is 3", "intermediate_size is 96", "num_hidden_layers is 4"):
        assert part in str(error.value)


def test_sizes_that_no_variable_tells_are_taken_from_what_is_said(tmp_path):
    shapes = shapes_of(make_variables([0, 0]))
    assert plan_variables(shapes).config.intermediate_size == 4 * HIDDEN
    said = known(tmp_path, {"hidden_size": HIDDEN, "intermediate_size": 96})
    assert plan_variables(shapes, said).config.intermediate_size == 96


def test_no_hugging_face_model_has_its_layers():
    variables = make_variables([0, 1, 2, 2])
    model = convert_variables(plan_variables(shapes_of(variables)), variables)
    for to in ("huggingface", "convbert", "electra"):
        with pytest.raises(InputError, match=r"no Hugging Face model has dynamic_conv sub-layers; the plan is"):
            their_model(model, to)
