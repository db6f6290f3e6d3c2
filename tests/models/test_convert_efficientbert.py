"""State dicts in the layout of EfficientBERT's program, made of models of ours, converted by the command."""

import json

import pytest
import torch
from safetensors.torch import save_file

from bertkernels.cli.main import main
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.efficientbert_names import encoder_names, linear
from bertkernels.models.convert.from_huggingface import MODEL_CLASSES
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import RELEASED, SUPERNET, genotype_plan, parse_genotype
from bertkernels.models.inheritance import inherited_student

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.2,
    "hidden_act": "gelu_tanh",
    "layer_norm_eps": 1e-5,
    "padding": "reference",
}
TRIGRAM = {"embedding_size": 8, "trigram_embeddings": True}
HEADS = {
    "encoder": {},
    "classifier": linear("classifier.output", "classifier"),
    "question_answering": linear("span.output", "classifier"),
    "masked_lm": {**linear("prediction.dense", "lm_head.dense"), **linear("prediction.norm", "lm_head.layernorm")},
}


def made(part="encoder", **fields):
    """A model, and its weights as the program would have saved them."""
    torch.manual_seed(0)
    fields = {"plan": genotype_plan(parse_genotype(SUPERNET), blocks=6), **SIZES, **TRIGRAM, **fields}
    model = MODEL_CLASSES[part](EncoderConfig(**fields)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=0.2).add_(name.endswith("norm.weight"))  # biases and norms too
    prefix = "" if part == "encoder" else "model."
    names = {f"{prefix}{ours}": source.name for ours, source in encoder_names(model.config).items()}
    names |= {ours: source.name for ours, source in HEADS[part].items()}
    state = model.state_dict()
    weights = {theirs: state[ours].clone() for ours, theirs in names.items() if ours in state}
    if part == "masked_lm":
        weights["lm_head.lm_bias"] = state["prediction.bias"].clone()
        weights["lm_head.lm_decoder.weight"] = weights["embeddings.token_embeddings.weight"].clone()
    weights["fit_dense.weight"], weights["fit_dense.bias"] = torch.randn(10, 24), torch.randn(10)
    return model, weights


def saved(weights, folder, name="theirs.bin"):
    if name.endswith(".safetensors"):
        save_file(weights, folder / name)
    else:
        torch.save(weights, folder / name)
    return folder / name


def convert(*arguments, heads=4):
    return main(["convert", *map(str, arguments), *(["--num_attention_heads", str(heads)] if heads else [])])


def outputs(model):
    ids = torch.randint(1, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model(ids, torch.tensor([[1] * 7, [1] * 4 + [0] * 3]), return_dict=True)
    return [value for value in out.values() if torch.is_tensor(value)]


def assert_same_outputs(one, other):
    for found, wanted in zip(outputs(one), outputs(other), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("part", HEADS)
@pytest.mark.parametrize("name", ["theirs.bin", "theirs.safetensors"])
def test_a_supernet_and_its_heads(part, name, tmp_path, capsys):
    model, weights = made(part, pooler=part == "classifier", num_labels=3 if part == "classifier" else 2)
    assert convert(saved(weights, tmp_path, name), tmp_path / "ours", "--genotype", "supernet") == 0
    shown = capsys.readouterr().out
    assert "state dict of EfficientBERT's program" in shown and "left out: fit_dense" in shown
    assert "num_attention_heads=4, which the weights do not tell" in shown and "numbers of feed" not in shown
    ours = load_ours(tmp_path / "ours")
    assert type(ours) is type(model) and ours.config.plan == model.config.plan
    assert_same_outputs(ours, model)


def test_a_student_is_what_the_genotype_leaves_of_it(tmp_path, capsys):
    model, weights = made()
    file = saved({"state_dict": {f"module.{name}": weight for name, weight in weights.items()}, "epoch": 1}, tmp_path)
    assert convert(file, tmp_path / "ours", "--genotype", "released") == 0
    student = inherited_student(model, parse_genotype(RELEASED))
    assert_same_outputs(load_ours(tmp_path / "ours"), student)
    left = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in student.parameters())
    assert (
        f"left out: {left:,} numbers of feed-forward layers that the genotype does not use" in capsys.readouterr().out
    )


def test_plain_layers_and_berts_embeddings(tmp_path, capsys):
    model, weights = made(plan="3*(attention ffn)", trigram_embeddings=False, embedding_size=24, pooler=True)
    assert convert(saved(weights, tmp_path), tmp_path / "ours", "--padding", "exact") == 0
    ours = load_ours(tmp_path / "ours")
    assert ours.config.padding == "exact" and ours.config.plan == "3*(attention ffn)"
    ours.config.padding = "reference"
    assert_same_outputs(ours, model)
    assert convert(saved(weights, tmp_path), tmp_path / "no", "--genotype", "released") == 2
    assert "has no all_ffn layers" in capsys.readouterr().err


def test_expressions_pad_without_trigrams(tmp_path, capsys):
    plan = genotype_plan(parse_genotype(SUPERNET), blocks=6)
    _, weights = made(plan=plan, trigram_embeddings=False, embedding_size=24, intermediate_size=48)
    file = saved(weights, tmp_path)
    assert convert(file, tmp_path / "ours", "--genotype", "released") == 0
    assert load_ours(tmp_path / "ours").config.expression_widths == "pad"
    assert "expression_widths=pad" in capsys.readouterr().out
    flag = ("--expression_widths", "pad_published")
    assert convert(file, tmp_path / "theirs", "--genotype", "released", *flag) == 0
    assert load_ours(tmp_path / "theirs").config.expression_widths == "pad_published"


def test_one_head_of_several_tasks(tmp_path, capsys):
    model, weights = made("classifier", pooler=True, num_labels=3)
    head = {role: weights.pop(f"classifier.{role}") for role in ("weight", "bias")}
    for number in range(3):
        weights |= {f"classifiers.{number}.{role}": weight * number for role, weight in head.items()}
    file = saved(weights, tmp_path)
    assert convert(file, tmp_path / "none", "--genotype", "supernet") == 2
    assert "has the heads of several tasks: classifier must be one of [0, 1, 2]" in capsys.readouterr().err
    assert convert(file, tmp_path / "ours", "--genotype", "supernet", "--classifier", 1) == 0
    assert "left out: classifiers.0, classifiers.2" in capsys.readouterr().out
    assert_same_outputs(load_ours(tmp_path / "ours"), model)


def test_presets_inherit_from_supernets(tmp_path):
    fields = {"vocab_size": 30, "hidden_size": 540, "intermediate_size": 540, "num_attention_heads": 12}
    model, weights = made(**fields, embedding_size=128)
    file = saved(weights, tmp_path)
    inherit = ("--genotype", "supernet", "--inherit", "efficientbert-plusplus")
    assert convert(file, tmp_path / "deep", *inherit, heads=None) == 0
    assert convert(file, tmp_path / "plain", *inherit, "--plain_slicing", heads=None) == 0
    deep, plain = (load_ours(tmp_path / name) for name in ("deep", "plain"))
    assert (deep.config.hidden_size, deep.config.vocab_size, deep.config.num_hidden_layers) == (360, 30, 12)
    wide = model.encoder.blocks[5].sublayers[0].function.query.weight
    rows = torch.arange(540).view(12, 45)[:, :30].flatten()
    assert torch.equal(deep.encoder.blocks[11].sublayers[0].function.query.weight, wide[rows, :360])
    assert torch.equal(plain.encoder.blocks[11].sublayers[0].function.query.weight, wide[:360, :360])


def test_students_of_our_own_supernets(tmp_path, capsys):
    model, _ = made()
    model.save_pretrained(tmp_path / "supernet")
    assert convert(tmp_path / "supernet", tmp_path / "student", "--genotype", "released", heads=None) == 0
    assert_same_outputs(load_ours(tmp_path / "student"), inherited_student(model, parse_genotype(RELEASED)))
    assert convert(tmp_path / "supernet", tmp_path / "none", "--plain_slicing", heads=None) == 2
    assert "give --inherit" in capsys.readouterr().err
    assert convert(tmp_path / "supernet", tmp_path / "none", "--inherit", "efficientbert-bsae", heads=None) == 2
    assert "did you mean 'efficientbert-base'" in capsys.readouterr().err
    assert convert(tmp_path / "supernet", tmp_path / "none", "--classifier", "0", heads=None) == 2
    assert "--classifier is for a state dict of EfficientBERT's program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: weights.pop("encoder.2.attention.key.bias"), "1 missing (encoder.2.attention.key.bias)"),
        (lambda weights: weights.pop("embeddings.segment_embeddings.weight"), "1 missing (embeddings.segment"),
        (lambda weights: weights.update(extra=torch.zeros(2)), "1 unexpected (extra)"),
        (
            lambda weights: weights.update({"encoder.1.all_ffn.0.dense1.weight": torch.zeros(5, 24)}),
            "1 mis-shaped (encoder.1.all_ffn.0.dense1.weight [5, 24] instead of [24, 24])",
        ),
        (lambda weights: weights.pop("embeddings.token_embeddings.weight"), "is no state dict of EfficientBERT's"),
    ],
)
def test_weights_that_do_not_fit(spoil, message, tmp_path, capsys):
    _, weights = made()
    spoil(weights)
    assert convert(saved(weights, tmp_path), tmp_path / "ours", "--genotype", "released") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        (None, "which only its genotype tells apart: give --genotype released, supernet, or a file"),
        (["linear1_1(gelu(linear1_1(x,wb1)),wb1)"], "genotype, 1: expression: w1 is used a second time"),
        (["tanh(linear1_1(gelu(linear1_1(x,wb1),wb2))"], "expected ')', got ','"),
        (4 * ["linear1_1(gelu(linear1_1(x,wb1)),wb2)"], "a genotype of 4 expressions does not fit 6 blocks"),
        (["mul(linear1_2(x,wb1),tanh(linear1_2(x,wb2)))"], "w2 takes 12 channels and is given 24"),
    ],
)
def test_genotypes_that_do_not_fit(expressions, message, tmp_path, capsys):
    _, weights = made()
    (tmp_path / "genotype").write_text(json.dumps(expressions))
    flags = () if expressions is None else ("--genotype", tmp_path / "genotype")
    assert convert(saved(weights, tmp_path), tmp_path / "ours", *flags) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "ours").exists()


def test_other_flags_and_heads_that_are_not_there(tmp_path, capsys):
    _, weights = made()
    file = saved(weights, tmp_path)
    assert convert(file, tmp_path / "ours", "--genotype", "released", "--hidden_act", "relu") == 2
    assert "--hidden_act is for TensorFlow checkpoints" in capsys.readouterr().err
    assert convert(file, tmp_path / "ours", "--genotype", "released", "--part", "masked_lm") == 2
    assert "has no masked_lm head: lm_head.dense.weight" in capsys.readouterr().err
    assert convert(file, tmp_path / "ours", "--genotype", "released", "--part", "generator") == 2
    assert "part must be one of encoder, masked_lm" in capsys.readouterr().err
    assert convert(file, tmp_path / "ours", "--genotype", "released", heads=5) == 2
    assert "hidden_size 24 must be divisible by num_attention_heads 5" in capsys.readouterr().err
