import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from bertkernels.errors import InputError
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.presets import preset
from bertkernels.training.bert_adam import BertAdam
from bertkernels.training.early_adamw import EarlyAdamW
from bertkernels.training.parameter_groups import layer_depths, parameter_groups
from bertkernels.training.resumable_trainer import ResumableTrainer
from bertkernels.training.schedules import bert_rate
from bertkernels.training.training_arguments import FinetuneRunArguments


def _small(kind: str):
    if kind == "ours":
        sizes = {"hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 32}
        config = preset("convbert-small", vocab_size=30, plan="3*(mixed ffn)", **sizes)
    else:
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3}
        config = BertConfig(vocab_size=30, **sizes)
    return AutoModelForSequenceClassification.from_config(config)


_DEPTHS = {
    "ours": {
        "model.embeddings.word_embeddings.weight": 0,
        "model.embeddings_projection.bias": 0,
        "model.encoder.blocks.0.sublayers.1.norm.weight": 1,
        "model.encoder.blocks.2.sublayers.0.function.query.weight": 3,
        "classifier.output.weight": 5,
    },
    "hugging face": {
        "bert.embeddings.LayerNorm.bias": 0,
        "bert.encoder.layer.0.attention.self.query.weight": 1,
        "bert.encoder.layer.2.output.dense.weight": 3,
        "bert.pooler.dense.weight": 4,
        "classifier.weight": 5,
    },
}


@pytest.mark.parametrize("kind", _DEPTHS)
def test_depths(kind):
    names = [name for name, _ in _small(kind).named_parameters()]
    depths = layer_depths(names)
    assert depths.keys() == set(names)
    assert {name: depths[name] for name in _DEPTHS[kind]} == _DEPTHS[kind]


def test_lvberts_depths_count_pairs():
    with torch.device("meta"):
        model = EncoderForSequenceClassification(preset("lvbert-small"))
    depths = layer_depths([name for name, _ in model.named_parameters()])
    first, second = "model.encoder.blocks.0.sublayers.0.norm.bias", "model.encoder.blocks.0.sublayers.1.norm.bias"
    assert depths[first] == depths[second] == 1
    assert depths["model.encoder.blocks.11.sublayers.1.function.query.weight"] == 12
    assert depths["classifier.output.weight"] == 14 and depths["model.embeddings_projection.weight"] == 0


def test_each_parameter_is_in_one_group_with_its_rate_and_decay():
    model = _small("ours")
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    decayed = [name for name, _ in model.named_parameters() if name.endswith("weight") and "norm" not in name]
    groups = parameter_groups(model, decayed, 1.0, 0.01, 0.5)
    assert groups[0]["lr"] == 1.0
    placed = {id(parameter): group for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(placed) == len(list(model.parameters())) - 1
    assert id(frozen) not in placed
    named = dict(model.named_parameters())
    assert placed[id(named["classifier.output.weight"])]["weight_decay"] == 0.01
    assert placed[id(named["classifier.output.bias"])]["weight_decay"] == 0.0
    last = named["model.encoder.blocks.2.sublayers.0.function.query.weight"]
    assert placed[id(last)]["lr"] == 0.25


def test_a_model_without_blocks_has_no_depths():
    with pytest.raises(ValueError, match="no numbered blocks"):
        layer_depths(["weight", "bias"])


def test_bert_adam_against_its_formula_in_fp64():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.randn(2, dtype=torch.float64))
    optimizer = BertAdam([weight, unused], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.05)
    expected, m, v, before = weight.detach().clone(), 0.0, 0.0, unused.detach().clone()
    for _ in range(4):
        weight.grad = torch.randn_like(weight)
        m, v = 0.8 * m + 0.2 * weight.grad, 0.9 * v + 0.1 * weight.grad**2
        expected -= 0.1 * (m / (v.sqrt() + 1e-3) + 0.05 * expected)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(unused, before)


def test_early_adamw_against_its_formula_in_fp64():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.randn(2, dtype=torch.float64))
    optimizer = EarlyAdamW([weight, unused], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.05)
    expected, m, v, before = weight.detach().clone(), 0.0, 0.0, unused.detach().clone()
    for step in range(1, 5):
        weight.grad = torch.randn_like(weight)
        m, v = 0.8 * m + 0.2 * weight.grad, 0.9 * v + 0.1 * weight.grad**2
        expected -= 0.1 * (1 - 0.9**step) ** 0.5 / (1 - 0.8**step) * m / (v.sqrt() + 1e-3)
        expected *= 1 - 0.1 * 0.05
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(unused, before) and unused not in optimizer.state


@pytest.mark.parametrize("optimizer", [BertAdam, EarlyAdamW])
@pytest.mark.parametrize("change", [{"lr": -1}, {"eps": -1}, {"betas": (1.0, 0.9)}, {"weight_decay": -0.1}])
def test_bad_settings_are_refused(optimizer, change):
    with pytest.raises(ValueError, match="must"):
        optimizer([torch.nn.Parameter(torch.zeros(1))], **change)


def test_bert_rate():
    assert [bert_rate(step, 10, 2) for step in (0, 1, 2, 10, 11)] == [0, 0.45, 0.8, 0, 0]
    assert bert_rate(5, 10, 0, power=2) == 0.25


def _trainer(tmp_path, model, **settings):
    run = FinetuneRunArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", learning_rate=1.0, max_steps=10, **settings
    )
    return ResumableTrainer(model=model, args=run)


def test_trainer_builds_what_the_flags_say(tmp_path):
    settings = {"optimizer": "bert_adam", "adam_epsilon": 1e-6, "weight_decay": 0.01, "layerwise_lr_decay": 0.5}
    trainer = _trainer(tmp_path, _small("ours"), bert_schedule=True, warmup_steps=2, **settings)
    trainer.create_optimizer_and_scheduler(10)
    assert type(trainer.optimizer) is BertAdam
    groups = trainer.optimizer.param_groups
    assert {group["eps"] for group in groups} == {1e-6}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}
    rates = []
    for _ in range(4):
        rates.append(trainer.lr_scheduler.get_last_lr())
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert [rate[0] for rate in rates] == pytest.approx([0, 0.45, 0.8, 0.7])
    assert rates[2][-1] == pytest.approx(0.8 * 0.5**5)


def test_a_rate_that_falls_beyond_the_run(tmp_path):
    trainer = _trainer(tmp_path, _small("ours"), bert_schedule=True, warmup_steps=0, lr_decay_steps=20)
    trainer.create_optimizer_and_scheduler(10)
    for _ in range(10):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.5)
    with pytest.raises(InputError, match="--lr_decay_steps 9 is below the steps of the run"):
        _trainer(tmp_path, _small("ours"), bert_schedule=True, lr_decay_steps=9)


def test_trainer_without_flags_is_transformers_own(tmp_path):
    trainer = _trainer(tmp_path, _small("ours"))
    trainer.create_optimizer_and_scheduler(10)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert len(trainer.optimizer.param_groups) == 2
    trainer = _trainer(tmp_path, _small("ours"), layerwise_lr_decay=0.8)
    trainer.create_optimizer_and_scheduler(10)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert len(trainer.optimizer.param_groups) > 4


@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"layerwise_lr_decay": 0.0}, {"layerwise_lr_decay": 1.5}])
def test_bad_flags(tmp_path, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        FinetuneRunArguments(output_dir=str(tmp_path), use_cpu=True, **settings)
