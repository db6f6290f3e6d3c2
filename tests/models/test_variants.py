"""The published variants of a six-block BERT: each against its formula, restated here by its name in plain torch."""

import pytest
import torch
from torch.nn import functional

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.convert.to_huggingface import their_model
from bertkernels.models.cost import parameters
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.presets import preset
from bertkernels.models.variants import VARIANTS
from bertkernels.nn import PostNorm, static_shapes

C, H, B, T = 16, 2, 3, 7
LENGTHS = torch.tensor([7, 4, 1])
REAL = torch.arange(T) < LENGTHS[:, None]  # [B, T]
SIZES = {
    "vocab_size": 40,
    "hidden_size": C,
    "num_attention_heads": H,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# one of each kind, and one of several layers
DISTINCT = [name for name in VARIANTS if "-layer" not in name or name.endswith(("-layer2", "-layer135"))]


def model(name, **changes):
    torch.manual_seed(0)
    made = EncoderModel(preset(f"bert-small-6-{name}", **SIZES, **changes)).eval()
    with torch.no_grad():
        for parameter in made.encoder.parameters():  # norms, biases and scales too are no longer what they start as
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def embeddings():
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(1))


def ids():
    return torch.randint(1, 40, (B, T), generator=torch.Generator().manual_seed(2))


def chosen_layers(name):
    return {int(digit) for digit in name.rpartition("-layer")[2] if digit.isdigit()}


def restated(encoder, name, x):
    """All layers on whole sequences x [B, T, C]."""
    for layer, block in enumerate(encoder.blocks, 1):
        for sublayer in block.sublayers:
            part = "attention" if hasattr(sublayer.function, "query") else "ffn"
            out = (attended if part == "attention" else fed_forward)(sublayer.function, name, layer, x)
            x = framed(sublayer, name, part, layer, x, out)
    return x


def attended(function, name, layer, x):
    query, key, value = (
        linear(x).view(B, T, H, C // H).transpose(1, 2) for linear in (function.query, function.key, function.value)
    )
    scores = query @ key.transpose(2, 3) / (C // H) ** 0.5
    weights = scores if name == "linear-attention" else scores.softmax(-1)
    out = function.output((weights @ value).transpose(1, 2).reshape(B, T, C))
    return functional.gelu(out) if "add-gelu" in name else out


def fed_forward(function, name, layer, x):
    between = function.up(x)
    if name == "new-layernorm":
        between = functional.layer_norm(between, (24,), function.norm.weight, function.norm.bias, 1e-5)
    if name == "relu-all" or (name.startswith("relu-layer") and layer in chosen_layers(name)):
        between = between.clamp(min=0)
    elif name != "linear-ffn":
        between = functional.gelu(between)
    return function.down(between)


def framed(sublayer, name, part, layer, x, out):
    def norm(x):
        return functional.layer_norm(x, (C,), sublayer.norm.weight, sublayer.norm.bias, 1e-5)

    if name == "new-layernorm":
        return x + (norm(out) if part == "attention" else out)
    if name.startswith("weighted-") and (f"-{part}" in name or name == "weighted-all"):
        if name.endswith("static"):
            x = sublayer.residual.scale * x
        else:
            weight = x @ sublayer.residual.weight.weight.T + sublayer.residual.weight.bias  # [B, T, 1]
            x = (weight if name.endswith("wo-sigmoid") else torch.sigmoid(weight)) * x
    if name.startswith("remove-skip") and layer in chosen_layers(name):
        x = 0
    return norm(x + out)


@pytest.mark.parametrize("name", DISTINCT)
def test_is_its_formula(name):
    made, x = model(name), embeddings()
    inputs = made.embeddings(None, None, None, x)
    expected = restated(made.encoder, name, inputs)
    found = made(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    factors = torch.randn(B, T, C, generator=torch.Generator().manual_seed(3))
    weights = list(made.encoder.parameters())
    ours = torch.autograd.grad((found * factors).sum(), weights)
    theirs = torch.autograd.grad((expected * factors).sum(), weights)
    for gradient, wanted in zip(ours, theirs, strict=True):
        largest = max(wanted.abs().max().item(), 1.0)
        torch.testing.assert_close(gradient, wanted, atol=1e-4 * largest, rtol=1e-3)


@pytest.mark.parametrize("name", DISTINCT)
def test_padding_changes_nothing_and_may_hold_nan(name):
    made, x = model(name), embeddings()
    harmed = x.masked_fill(~REAL[..., None], float("nan"))
    with torch.no_grad():
        alone = torch.cat([made(inputs_embeds=x[b : b + 1, :n])[0][0] for b, n in enumerate(LENGTHS.tolist())])
        packed = made(inputs_embeds=harmed, attention_mask=REAL.long())[0]
        with static_shapes():
            aligned = made(inputs_embeds=harmed, attention_mask=REAL.long())[0]
        made.config.padding = "reference"  # nothing here is a convolution, so that it is the same
        masked = made(inputs_embeds=x, attention_mask=REAL.long())[0]
    for found in (packed, aligned, masked):
        torch.testing.assert_close(found[REAL], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DISTINCT)
def test_saves_and_loads(name, tmp_path):
    made = EncoderForMaskedLM(preset(f"bert-small-6-{name}", **SIZES)).eval()
    expected = made(ids()).logits
    made.save_pretrained(tmp_path)
    for loaded in (EncoderForMaskedLM.from_pretrained(tmp_path), load_ours(tmp_path)):
        assert loaded.config.plan == made.config.plan
        assert torch.equal(loaded.eval()(ids()).logits, expected)
    encoder = load_ours(tmp_path, "encoder")
    assert torch.equal(encoder(ids()).last_hidden_state, made.model(ids()).last_hidden_state)


@pytest.mark.parametrize("name", DISTINCT)
def test_pretrains_by_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"row {i} is read and then written to column {i * i}" for i in range(100)))
    flags = {
        "recipe": "bert-small-6",
        "preset": f"bert-small-6-{name}",
        "train_file": text,
        "output_dir": tmp_path / "run",
        "hidden_size": C,
        "num_attention_heads": H,
        "intermediate_size": 24,
        "vocab_size": 200,
        "max_seq_length": 16,
        "max_steps": 2,
        "warmup_steps": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    command = ["pretrain", "--use_cpu", *(part for flag, value in flags.items() for part in (f"--{flag}", str(value)))]
    assert main(command) == 0
    trained = load_ours(tmp_path / "run")
    assert trained.config.plan == preset(f"bert-small-6-{name}").plan
    assert all(parameter.isfinite().all() for parameter in trained.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_blocks_that_are_as_before_keep_their_frame(name):
    with torch.device("meta"):
        blocks = EncoderModel(preset(f"bert-small-6-{name}", **SIZES)).encoder.blocks
    plain = [all(type(sublayer) is PostNorm for sublayer in block.sublayers) for block in blocks]
    varied = chosen_layers(name) if name.startswith("remove-skip") else set()
    if varied:
        assert plain == [layer not in varied for layer in range(1, 7)]
    elif name.startswith(("relu-", "linear-", "wo-ffn")) and "gelu" not in name:
        assert all(plain)
    else:
        assert not any(plain)


def test_weights_of_connections_start_as_published():
    torch.manual_seed(0)
    scaled = EncoderModel(preset("bert-small-6-weighted-attention-static", **SIZES))
    assert all(block.sublayers[0].residual.scale == 1 for block in scaled.encoder.blocks)
    gated = EncoderModel(preset("bert-small-6-weighted-ffn", **SIZES))
    for block in gated.encoder.blocks:
        weight = block.sublayers[1].residual.weight
        assert not weight.bias.any() and 0 < weight.weight.abs().max() <= 2 * SIZES["initializer_range"]


def test_sizes():
    assert parameters(preset("bert-small-6")) == 35_068_416  # "35M"
    assert parameters(preset("bert-small-6-weighted-all")) == 35_068_416 + 12 * 513
    with_ffn, more = (parameters(preset(f"bert-small-6{name}")) for name in ("", "-wo-ffn-increase-attention"))
    assert abs(more / with_ffn - 1) < 1e-3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weighted-ffn", r"it has no ffn\[residual=gated\]"),
        ("new-layernorm", r"it has no attention\[norm=output\]; it has no ffn\[norm=inner\]"),
        ("add-gelu-attention", r"it has no attention\[output_activation=gelu\]"),
        ("relu-layer1", "its layers are all alike"),
        ("linear-attention", "no Hugging Face model has linear_attention sub-layers"),
        ("wo-ffn", r"its layers are \(attention ffn\)"),
    ],
)
def test_what_hugging_face_lacks_is_named(name, message):
    with pytest.raises(InputError, match=message):
        their_model(EncoderModel(preset(f"bert-small-6-{name}", **SIZES)))


def test_a_feed_forwards_own_activation_must_be_the_models_for_hugging_face():
    made = EncoderModel(preset("bert-small-6", **SIZES | {"plan": "2*(attention ffn[activation=relu])"}))
    with pytest.raises(InputError, match="it has one activation, hidden_act gelu, but its feed-forward has relu"):
        their_model(made)
