"""What TensorFlow variables become, for configurations of the released programs that no recording covers too.

Outputs are compared with an fp64 NumPy encoder that reads the variables under their TensorFlow names.
"""

import json
from math import erf, sqrt

import numpy as np
import pytest
import torch

from bertkernels.errors import InputError
from bertkernels.models.convert.tensorflow import convert_variables
from bertkernels.models.convert.tensorflow_config import KnownSizes, read_known_sizes
from bertkernels.models.convert.tensorflow_plan import plan_variables
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForMaskedLM, EncoderForSequenceClassification
from bertkernels.models.token_classification import EncoderForTokenClassification

DEFAULTS = {
    "hidden_size": 24,
    "embedding_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "head_ratio": 2,
    "conv_kernel_size": 5,
    "linear_groups": 1,
    "conv_type": "sdconv",
    "vocab_size": 30,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
    "initializer_range": 0.05,
}
CONFIGURATIONS = {
    "plain": {},
    "narrow embeddings, groups": {"embedding_size": 8, "linear_groups": 4, "conv_kernel_size": 7},
    "ratio 4": {"head_ratio": 4},
    "ratio 1": {"head_ratio": 1, "conv_kernel_size": 3},
    "more ratio than heads": {"num_attention_heads": 1, "head_ratio": 2},
    "one head of a pair": {"num_attention_heads": 2, "head_ratio": 2},
    "ratio 3 of 12 heads": {"num_attention_heads": 12, "head_ratio": 3},
    "taps beyond the sequence": {"conv_kernel_size": 17},
    "one tap": {"conv_kernel_size": 1},
    "no convolution": {"conv_type": "noconv", "head_ratio": 1, "embedding_size": 8},
    "no convolution, ratio 2, groups": {"conv_type": "noconv", "head_ratio": 2, "linear_groups": 2},
    "one layer": {"num_hidden_layers": 1},
}


def make_variables(config, scope="electra", embeddings=None, seed=0):
    """Random variables of a network as the released ConvBERT names and shapes them."""
    generator = np.random.default_rng(seed)
    variables = {}

    def add(name, *shape, scale=None, offset=0.0):
        scale = scale or 1 / sqrt(shape[-2] if len(shape) > 1 else 10)
        variables[name] = (offset + scale * generator.normal(size=shape)).astype("f4")

    def norm(name, size):
        add(f"{name}/gamma", size, offset=1.0)
        add(f"{name}/beta", size)

    def dense(name, size_in, size_out):
        add(f"{name}/kernel", size_in, size_out)
        add(f"{name}/bias", size_out)

    hidden, narrow = config["hidden_size"], config["embedding_size"]
    if embeddings is None:
        embeddings = f"{scope}/embeddings"
        for table, rows in (
            ("word", "vocab_size"),
            ("position", "max_position_embeddings"),
            ("token_type", "type_vocab_size"),
        ):
            add(f"{embeddings}/{table}_embeddings", config[rows], narrow, scale=1.0)
        norm(f"{embeddings}/LayerNorm", narrow)
    if narrow != hidden:
        dense(f"{scope}/embeddings_project", narrow, hidden)
    heads, width = effective(config)
    taps, groups, wide = config["conv_kernel_size"], config["linear_groups"], config["intermediate_size"]
    for index in range(config["num_hidden_layers"]):
        layer = f"{scope}/encoder/layer_{index}"
        attention = f"{layer}/attention/self"
        for role in ("query", "key", "value"):
            dense(f"{attention}/{role}", hidden, width)
        if config["conv_type"] == "sdconv":
            add(f"{attention}/conv_attn_key/depthwise_kernel", taps, hidden, 1, scale=1 / sqrt(taps))
            add(f"{attention}/conv_attn_key/pointwise_kernel", 1, hidden, width)
            add(f"{attention}/conv_attn_key/bias", width)
            dense(f"{attention}/conv_attn_kernel", width, heads * taps)
            dense(f"{attention}/conv_attn_point", hidden, width)
        dense(f"{layer}/attention/output/dense", width * (2 if config["conv_type"] == "sdconv" else 1), hidden)
        norm(f"{layer}/attention/output/LayerNorm", hidden)
        for part, size_in, size_out in (("intermediate", hidden, wide), ("output", wide, hidden)):
            if groups > 1:
                add(f"{layer}/{part}/g_dense/kernel", groups, size_in // groups, size_out // groups)
                add(f"{layer}/{part}/g_dense/bias", size_out)
            else:
                dense(f"{layer}/{part}/dense", size_in, size_out)
        norm(f"{layer}/output/LayerNorm", hidden)
    return variables


def effective(config):
    heads = max(1, int(config["num_attention_heads"] / config["head_ratio"]))
    return heads, heads * (config["hidden_size"] // config["num_attention_heads"])


def reference_output(variables, config, ids, types, mask, scope="electra"):
    """The last layer's states [B, T, C] in fp64."""
    variables = {name: array.astype("f8") for name, array in variables.items()}
    gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / sqrt(2))))

    def softmax(x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        normal = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return normal * variables[f"{name}/gamma"] + variables[f"{name}/beta"]

    def dense(name, x):
        return x @ variables[f"{name}/kernel"] + variables[f"{name}/bias"]

    def grouped(name, x):
        if f"{name}/dense/kernel" in variables:
            return dense(f"{name}/dense", x)
        parts = np.split(x, config["linear_groups"], axis=-1)
        kernels = variables[f"{name}/g_dense/kernel"]
        outputs = [part @ kernel for part, kernel in zip(parts, kernels, strict=True)]
        return np.concatenate(outputs, axis=-1) + variables[f"{name}/g_dense/bias"]

    def neighbours(x):  # [B, T, …] → [B, T, K, …], zeros outside
        taps, tokens = config["conv_kernel_size"], x.shape[1]
        left = (taps - 1) // 2
        padded = np.pad(x, [(0, 0), (left, taps - 1 - left)] + [(0, 0)] * (x.ndim - 2))
        return np.stack([padded[:, tap : tap + tokens] for tap in range(taps)], axis=2)

    embeddings = f"{scope}/embeddings"
    x = variables[f"{embeddings}/word_embeddings"][ids] + variables[f"{embeddings}/token_type_embeddings"][types]
    x = norm(f"{embeddings}/LayerNorm", x + variables[f"{embeddings}/position_embeddings"][: ids.shape[1]])
    if f"{scope}/embeddings_project/kernel" in variables:
        x = dense(f"{scope}/embeddings_project", x)
    heads, width = effective(config)
    for index in range(config["num_hidden_layers"]):
        layer = f"{scope}/encoder/layer_{index}"
        attention = f"{layer}/attention/self"

        def split(y):
            return y.reshape(*y.shape[:2], heads, width // heads)

        query = dense(f"{attention}/query", x)
        q, k, v = split(query), split(dense(f"{attention}/key", x)), split(dense(f"{attention}/value", x))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / sqrt(width // heads) - 10000.0 * (1 - mask[:, None, None, :])
        context = [np.einsum("bhqk,bkhd->bqhd", softmax(scores), v)]
        if config["conv_type"] == "sdconv":
            span = (neighbours(x) * variables[f"{attention}/conv_attn_key/depthwise_kernel"][None, None, :, :, 0]).sum(
                2
            )
            span = span @ variables[f"{attention}/conv_attn_key/pointwise_kernel"][0]
            span = span + variables[f"{attention}/conv_attn_key/bias"]
            logits = dense(f"{attention}/conv_attn_kernel", span * query)
            kernel = softmax(logits.reshape(*x.shape[:2], heads, config["conv_kernel_size"]))
            values = neighbours(split(dense(f"{attention}/conv_attn_point", x)))
            context.append(np.einsum("bthk,btkhd->bthd", kernel, values))
        context = np.concatenate(context, axis=2).reshape(*x.shape[:2], -1)
        x = norm(f"{layer}/attention/output/LayerNorm", x + dense(f"{layer}/attention/output/dense", context))
        x = norm(f"{layer}/output/LayerNorm", x + grouped(f"{layer}/output", gelu(grouped(f"{layer}/intermediate", x))))
    return x


def batch():
    generator = np.random.default_rng(5)
    mask = np.array([[1] * 11, [1] * 6 + [0] * 5])
    return generator.integers(0, 30, (2, 11)), generator.integers(0, 2, (2, 11)), mask


def shapes_of(variables):
    return {name: array.shape for name, array in variables.items()}


def written(tmp_path, content):
    path = tmp_path / "described.json"
    path.write_text(json.dumps(content))
    return path


def described(tmp_path, config):
    sizes = {name: value for name, value in config.items() if name != "embedding_size"}
    return read_known_sizes(
        written(tmp_path, {"bert_config": sizes, "embedding_size": config["embedding_size"], "seed": 1})
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_of_every_configuration(name, tmp_path):
    config = DEFAULTS | CONFIGURATIONS[name]
    variables = make_variables(config)
    plan = plan_variables(shapes_of(variables), described(tmp_path, config))
    assert plan.model_class is EncoderModel
    model = convert_variables(plan, variables).double()
    ids, types, mask = batch()
    with torch.no_grad():
        found = model(torch.tensor(ids), torch.tensor(mask), torch.tensor(types)).last_hidden_state.numpy()
    assert np.abs(found - reference_output(variables, config, ids, types, mask)).max() < 1e-6
    for field in ("num_attention_heads", "num_hidden_layers", "initializer_range", "hidden_dropout_prob"):
        assert getattr(plan.config, field) == config[field]
    assert plan.config.attention_probs_dropout_prob == 0.3


@pytest.mark.parametrize("name", [name for name, changes in CONFIGURATIONS.items() if "conv_type" not in changes])
def test_convolutions_tell_the_whole_architecture(name):
    config = DEFAULTS | CONFIGURATIONS[name]
    variables = make_variables(config)
    plan = plan_variables(shapes_of(variables))
    model = convert_variables(plan, variables).double()
    assert plan.config.num_attention_heads == config["num_attention_heads"]
    assert model.encoder.blocks[0].sublayers[0].function.heads == effective(config)[0]
    ids, types, mask = batch()
    with torch.no_grad():
        found = model(torch.tensor(ids), torch.tensor(mask), torch.tensor(types)).last_hidden_state.numpy()
    assert np.abs(found - reference_output(variables, config, ids, types, mask)).max() < 1e-6
    assert any("hidden_act gelu is taken" in note for note in plan.notes)


def test_plain_attention_does_not_tell_its_heads():
    shapes = shapes_of(make_variables(DEFAULTS | {"conv_type": "noconv", "head_ratio": 1}))
    with pytest.raises(InputError, match="do not tell num_attention_heads: give --num_attention_heads, or --config"):
        plan_variables(shapes)
    assert plan_variables(shapes, num_attention_heads=6).config.plan == "2*(attention ffn)"
    with pytest.raises(InputError, match=r"num_attention_heads 5 \(--num_attention_heads\) does not divide"):
        plan_variables(shapes, num_attention_heads=5)
    halved = shapes_of(make_variables(DEFAULTS | {"conv_type": "noconv", "head_ratio": 2}))
    assert plan_variables(halved, num_attention_heads=4).config.plan == "2*(attention[heads=2] ffn)"
    with pytest.raises(InputError, match="makes heads of 8 channels, but the encoder's queries have 12"):
        plan_variables(halved, num_attention_heads=3)


def test_all_contradictions_are_named(tmp_path):
    shapes = shapes_of(make_variables(DEFAULTS))
    known = described(
        tmp_path, DEFAULTS | {"hidden_size": 48, "num_hidden_layers": 3, "head_ratio": 4, "linear_groups": 2}
    )
    with pytest.raises(InputError) as error:
        plan_variables(shapes, known)
    message = str(error.value)
    assert "hidden_size is 48 in" in message and "described.json but 24 here" in message
    assert "num_hidden_layers is 3" in message and "groups is 2" in message
    assert "head_ratio 4" in message and "leaves 1 of 4 heads, but the layers have 2" in message
    with pytest.raises(InputError, match="num_attention_heads is 8 in --num_attention_heads but 4 here"):
        plan_variables(shapes, num_attention_heads=8)
    with pytest.raises(InputError, match="conv_type is noconv"):
        plan_variables(shapes, described(tmp_path, DEFAULTS | {"conv_type": "noconv"}))


def test_misfitting_variables_are_all_named():
    variables = make_variables(DEFAULTS)
    shapes = shapes_of(variables)
    del shapes["electra/encoder/layer_1/attention/self/conv_attn_point/bias"]
    del shapes["electra/embeddings/LayerNorm/beta"]
    shapes["electra/encoder/layer_0/attention/self/rotary/kernel"] = (2, 2)
    with pytest.raises(InputError) as error:
        plan_variables(shapes)
    assert "2 missing (electra/embeddings/LayerNorm/beta, electra/encoder/layer_1/attention/self/conv_attn" in str(
        error.value
    )
    assert "1 unexpected (electra/encoder/layer_0/attention/self/rotary/kernel)" in str(error.value)

    shapes = shapes_of(variables) | {"something/else": (3,)}
    with pytest.raises(InputError, match=r"1 unexpected \(something/else\)"):
        plan_variables(shapes)

    shapes = shapes_of(variables)
    shapes["electra/encoder/layer_1/output/dense/bias"] = (25,)
    shapes["electra/encoder/layer_0/attention/self/key/kernel"] = (24, 11)
    with pytest.raises(InputError) as error:
        plan_variables(shapes)
    assert "2 mis-shaped" in str(error.value)
    assert "electra/encoder/layer_1/output/dense/bias [25] instead of [24]" in str(error.value)
    shapes["electra/encoder/layer_0/attention/self/conv_attn_key/depthwise_kernel"] = (5, 24)
    with pytest.raises(InputError, match="mis-shaped .*depthwise_kernel"):
        plan_variables(shapes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "no checkpoint of ConvBERT, LV-BERT, ELECTRA or BERT"),
        ({"resnet/conv/kernel": (3, 3)}, "only in resnet"),
        ({"electra/embeddings/word_embeddings": (3, 3)}, "has no encoder"),
    ],
)
def test_other_checkpoints(shapes, message):
    with pytest.raises(InputError, match=message):
        plan_variables(shapes)


def make_pair(config, generator, own_embeddings=False):
    variables = make_variables(config)
    embeddings = None if own_embeddings else "electra/embeddings"
    variables |= make_variables(generator, "generator", embeddings, seed=1)
    width = generator["embedding_size"]
    for name, shape in {
        "generator_predictions/dense/kernel": (generator["hidden_size"], width),
        "generator_predictions/dense/bias": (width,),
        "generator_predictions/LayerNorm/gamma": (width,),
        "generator_predictions/LayerNorm/beta": (width,),
        "generator_predictions/output_bias": (config["vocab_size"],),
        "discriminator_predictions/dense/kernel": (config["hidden_size"], config["hidden_size"]),
        "discriminator_predictions/dense/bias": (config["hidden_size"],),
        "discriminator_predictions/dense_1/kernel": (config["hidden_size"], 1),
        "discriminator_predictions/dense_1/bias": (1,),
        "global_step": (),
        "electra/embeddings/word_embeddings/adam_m": (1,),
        "electra/embeddings/word_embeddings/adam_v": (1,),
    }.items():
        variables[name] = np.full(shape, 0.25, "f4")
    return variables


GENERATOR = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 16}


def test_pair_with_shared_and_with_own_embeddings():
    config = DEFAULTS | {"embedding_size": 8}
    for own in (False, True):
        generator = config | GENERATOR | ({"embedding_size": 12} if own else {})
        variables = make_pair(config, generator, own)
        plan = plan_variables(shapes_of(variables), part="pretraining")
        assert plan.config.untied_generator_embeddings is own
        model = convert_variables(plan, variables)
        tables = [net.model.embeddings.word_embeddings.weight for net in (model.generator, model.discriminator)]
        assert (tables[0] is tables[1]) is not own
        assert tuple(tables[0].shape) == (30, 12 if own else 8)
        assert plan.left_out == {
            "training step": ["global_step"],
            "optimizer state": [f"electra/embeddings/word_embeddings/adam_{slot}" for slot in "mv"],
        }

        plan = plan_variables(shapes_of(variables), part="generator")
        assert plan.model_class is EncoderForMaskedLM
        assert (plan.config.hidden_size, plan.config.num_attention_heads) == (12, 2)
        model = convert_variables(plan, variables).double()
        ids, types, mask = batch()
        names = "generator" if own else "electra"
        read = {
            name.replace(f"{names}/embeddings/", "generator/embeddings/"): array for name, array in variables.items()
        }
        with torch.no_grad():
            found = model.model(torch.tensor(ids), torch.tensor(mask), torch.tensor(types)).last_hidden_state.numpy()
        assert np.abs(found - reference_output(read, generator, ids, types, mask, "generator")).max() < 1e-6


def test_generator_heads_of_plain_attention(tmp_path):
    config = DEFAULTS | {"conv_type": "noconv", "head_ratio": 1}
    shapes = shapes_of(make_pair(config, config | GENERATOR | {"embedding_size": 24}))
    with pytest.raises(InputError, match="the generator's variables .* give --generator_num_attention_heads"):
        plan_variables(shapes, part="pretraining", num_attention_heads=4)
    plan = plan_variables(shapes, part="pretraining", num_attention_heads=4, generator_num_attention_heads=2)
    assert [net.num_attention_heads for net in (plan.config.discriminator, plan.config.generator)] == [4, 2]
    assert plan_variables(shapes, part="generator", num_attention_heads=3).config.num_attention_heads == 3

    # the configuration of a pre-training run tells both; its generator's heads are written as a float
    sizes = {name: value for name, value in config.items() if name != "embedding_size"}
    content = {
        "discriminator_bert_config": sizes,
        "generator_bert_config": sizes | GENERATOR | {"num_attention_heads": 2.0},
        "pretraining_kwargs": {"embedding_size": 24},
    }
    plan = plan_variables(shapes, read_known_sizes(written(tmp_path, content)), part="pretraining")
    assert [net.num_attention_heads for net in (plan.config.discriminator, plan.config.generator)] == [4, 2]


def test_parts_that_are_not_there():
    shapes = shapes_of(make_variables(DEFAULTS))
    for part, message in (
        ("discriminator", r"no head of a discriminator \(no variables in discriminator_predictions/\)"),
        ("masked_lm", "no head of a masked language model"),
        ("generator", "no generator of its own"),
        ("pretraining", "no head of a discriminator"),
        ("classifier", "has 0 fine-tuned tasks"),
        ("decoder", "part must be one of encoder, discriminator"),
    ):
        with pytest.raises(InputError, match=message):
            plan_variables(shapes, part=part)
    with pytest.raises(InputError, match="task 'cola' belongs to part classifier, not to encoder"):
        plan_variables(shapes, part="encoder", task="cola")


def test_one_of_several_tasks():
    shapes = shapes_of(make_variables(DEFAULTS))
    for task, labels in (("cola", 2), ("rte", 2), ("sts", 1)):
        shapes |= {f"task_specific/{task}/dense/kernel": (24, labels), f"task_specific/{task}/dense/bias": (labels,)}
    assert len(plan_variables(shapes).left_out) == 3
    with pytest.raises(InputError, match="has 3 fine-tuned tasks, name one with --task: cola, rte, sts"):
        plan_variables(shapes, part="classifier")
    with pytest.raises(InputError, match="no fine-tuned task 'mnli'; it has: cola, rte, sts"):
        plan_variables(shapes, task="mnli")
    plan = plan_variables(shapes, task="rte")
    assert plan.model_class is EncoderForSequenceClassification
    assert plan.config.label2id == {"entailment": 0, "not_entailment": 1}
    tagger = shapes | {"task_specific/chunk/dense/kernel": (24, 41), "task_specific/chunk/dense/bias": (41,)}
    plan = plan_variables(tagger, task="chunk")
    assert plan.model_class is EncoderForTokenClassification and plan.config.num_labels == 41
    assert "the tags have numbers only: the program that tuned chunk kept their names elsewhere" in plan.notes
    regression = plan_variables(shapes, task="sts").config
    assert (regression.num_labels, regression.problem_type) == (1, "regression")


def test_bert(tmp_path):
    config = DEFAULTS | {"conv_type": "noconv", "head_ratio": 1}
    variables = make_variables(config, "bert")
    variables["bert/pooler/dense/kernel"] = np.random.default_rng(3).normal(size=(24, 24)).astype("f4")
    for name, shape in {
        "bert/pooler/dense/bias": (24,),
        "cls/predictions/transform/dense/kernel": (24, 24),
        "cls/predictions/transform/dense/bias": (24,),
        "cls/predictions/transform/LayerNorm/gamma": (24,),
        "cls/predictions/transform/LayerNorm/beta": (24,),
        "cls/predictions/output_bias": (30,),
        "cls/seq_relationship/output_weights": (2, 24),
        "cls/seq_relationship/output_bias": (2,),
    }.items():
        variables[name] = np.full(shape, 0.1, "f4")
    # Google's bert_config.json says no more than this
    flat = {
        name: value
        for name, value in DEFAULTS.items()
        if name not in ("embedding_size", "head_ratio", "conv_kernel_size", "linear_groups", "conv_type")
    }
    known = read_known_sizes(written(tmp_path, flat | {"directionality": "bidi"}))
    plan = plan_variables(shapes_of(variables), known)
    assert (plan.config.padding, plan.config.pooler) == ("exact", True)
    model = convert_variables(plan, variables).double()
    ids, types, mask = batch()
    with torch.no_grad():
        found = model(torch.tensor(ids), torch.tensor(mask), torch.tensor(types))
    wanted = reference_output(variables, config, ids, types, mask, "bert")
    real = mask.astype(bool)
    assert np.abs(found.last_hidden_state.numpy()[real] - wanted[real]).max() < 1e-6
    pooled = np.tanh(wanted[:, 0] @ variables["bert/pooler/dense/kernel"].astype("f8") + np.float32(0.1))
    assert np.abs(found.pooler_output.numpy() - pooled).max() < 1e-6
    assert "next-sentence head, which has no counterpart" in plan.left_out

    assert plan_variables(shapes_of(variables), known, part="masked_lm").model_class is EncoderForMaskedLM
    fine_tuned = {name: array for name, array in variables.items() if not name.startswith("cls/")}
    fine_tuned |= {"output_weights": np.eye(3, 24, dtype="f4"), "output_bias": np.zeros(3, "f4")}
    plan = plan_variables(shapes_of(fine_tuned), known, part="classifier")
    logits = (
        convert_variables(plan, fine_tuned).double()(torch.tensor(ids), torch.tensor(mask), torch.tensor(types)).logits
    )
    assert np.abs(logits.detach().numpy() - pooled[:, :3]).max() < 1e-6


@pytest.mark.parametrize(
    ("content", "heads", "generator_heads"),
    [
        ({"model_size": "small"}, 4, None),
        ({"model_size": "medium-small", "generator_hidden_size": 0.25, "conv_type": "noconv"}, 8, 2),
        ({"model_size": "base", "generator_hidden_size": 0.33333, "task_names": ["cola"]}, 12, 4),
        ({"model_size": "medium", "generator_hidden_size": 0.33333, "custom_layer_list": [0, 2]}, 6, 2),
        ({"model_size": "large"}, 16, None),
        ({"model_size": "base", "model_hparam_overrides": {"num_attention_heads": 6}}, 6, None),
        ({"model_type": "electra", "hidden_size": 8, "num_attention_heads": 2}, 2, None),
        ({"bert_config": {"num_attention_heads": 3}, "generator_config": {"num_attention_heads": 1.0}}, 3, 1),
    ],
)
def test_forms_of_configurations(content, heads, generator_heads, tmp_path):
    known = read_known_sizes(written(tmp_path, content))
    assert known.encoder["num_attention_heads"].value == heads
    assert (known.generator["num_attention_heads"].value if generator_heads else None) == generator_heads
    if not generator_heads:
        assert "num_attention_heads" not in known.generator


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", 'must be an object with "bert_config"'),
        ('{"learning_rate": 1}', 'must be an object with "bert_config"'),
        ('{"bert_config": 3}', "bert_config in .* must be an object"),
        (
            '{"model_size": "huge"}',
            "model_size in .* must be one of small, medium-small, medium, base, large, got 'huge'",
        ),
        ('{"hidden_size": 2.5}', "hidden_size in .* must be a whole number from 1, got 2.5"),
        ('{"hidden_size": "8"}', "hidden_size in .* must be a whole number"),
    ],
)
def test_configurations_that_make_no_sense(text, message, tmp_path):
    path = tmp_path / "described.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_known_sizes(path)


def test_a_configuration_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_known_sizes(tmp_path / "none.json")
    assert KnownSizes().encoder == {}
