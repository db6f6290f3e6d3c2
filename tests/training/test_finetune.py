import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ConvBertConfig,
    ConvBertModel,
)

import bertkernels
from bertkernels.data.tokenizer import SPECIAL_TOKENS
from bertkernels.errors import InputError
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.pretrain import pretrain
from bertkernels.training.training_arguments import FinetuneRunArguments

_GOOD, _BAD = ("fast", "small", "reads", "kept"), ("slow", "large", "writes", "until")


@pytest.fixture
def run_arguments(tmp_path):
    def make(name="fine", **changes):
        settings = {
            "max_steps": 4,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return FinetuneRunArguments(output_dir=str(tmp_path / name), **settings | changes)

    return make


@pytest.fixture
def encoder(tiny_pretraining, tmp_path):
    """The folder of a pre-trained pair."""
    return str(pretrain(*tiny_pretraining(tmp_path / "pair", max_steps=1, save_strategy="no")).output_dir)


@pytest.fixture
def files(tmp_path):
    """Sentences whose words tell the label; a dev set of the same."""
    generator = random.Random(0)
    for name, rows in (("train.tsv", 160), ("dev.tsv", 60)):
        lines = ["sentence\tlabel"]
        for _ in range(rows):
            label = generator.choice(("good", "bad"))
            words = generator.choices(_GOOD if label == "good" else _BAD, k=3) + ["the", "kernel"]
            generator.shuffle(words)
            lines.append(f"{' '.join(words)}\t{label}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return {"train_file": str(tmp_path / "train.tsv"), "validation_file": str(tmp_path / "dev.tsv")}


def test_it_learns_saves_and_reports(encoder, files, run_arguments, tmp_path, capsys):
    arguments = FinetuneArguments(model_name_or_path=encoder, **files)
    result = finetune(arguments, run_arguments(max_steps=100, learning_rate=3e-3, report_to="tensorboard"))
    assert "train 160, dev 60" in capsys.readouterr().out
    assert result.metrics["eval_accuracy"] > 0.95 > result.metrics["eval_majority_accuracy"] + 0.3
    assert result.main_metric == "accuracy"
    main = {"main_metric": "accuracy", "main_score": result.metrics["eval_accuracy"]}
    assert json.loads((result.output_dir / "all_results.json").read_text()) == result.metrics | main
    assert result.main_score == result.metrics["eval_accuracy"]
    evaluated = json.loads((result.output_dir / "eval_results.json").read_text())
    assert evaluated.items() <= result.metrics.items()
    assert {"eval_accuracy", "eval_f1", "eval_mcc", "eval_loss"} <= set(evaluated)
    assert list((result.output_dir / "runs").rglob("events.out.tfevents.*"))

    model = AutoModelForSequenceClassification.from_pretrained(result.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    assert model.config.id2label == {0: "bad", 1: "good"}
    model.eval()
    with torch.no_grad():
        scores = model(
            **tokenizer(["fast kernel small", "slow kernel large"], padding=True, return_tensors="pt")
        ).logits
    assert [model.config.id2label[number] for number in scores.argmax(-1).tolist()] == ["good", "bad"]


@pytest.mark.parametrize("source", ["ours", "patched"])
def test_bf16(encoder, files, run_arguments, tmp_path, source):
    if source == "patched":
        tokenizer = AutoTokenizer.from_pretrained(f"{encoder}/discriminator")
        sizes = {"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = ConvBertConfig(vocab_size=len(tokenizer), **sizes, intermediate_size=64, num_groups=2)
        ConvBertModel(config).save_pretrained(tmp_path / "theirs")
        tokenizer.save_pretrained(tmp_path / "theirs")
        encoder = str(tmp_path / "theirs")
        bertkernels.register()
    try:
        run = run_arguments(max_steps=100, learning_rate=3e-3, bf16=True)
        result = finetune(FinetuneArguments(model_name_or_path=encoder, **files), run)
        assert result.metrics["eval_accuracy"] > 0.9
        saved = load_file(result.output_dir / "model.safetensors")
        assert {weight.dtype for weight in saved.values()} == {torch.float32}
    finally:
        bertkernels.unregister()


def test_pairs_and_regression_from_json_lines(encoder, run_arguments, tmp_path):
    rows = [{"text_a": f"row {i}", "text_b": f"column {i % 3}", "score": i / 4} for i in range(24)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = FinetuneArguments(
        model_name_or_path=encoder,
        train_file=str(tmp_path / "a.jsonl"),
        validation_file=str(tmp_path / "a.jsonl"),
        task_type="regression",
    )
    result = finetune(arguments, run_arguments())
    assert {"eval_pearson", "eval_spearman", "eval_mse"} <= set(result.metrics)
    assert "eval_majority_accuracy" not in result.metrics
    assert AutoModelForSequenceClassification.from_pretrained(result.output_dir).config.problem_type == "regression"


@pytest.mark.parametrize("task", ["CoLA", "MRPC", "MNLI", "STS-B"])
def test_glue_folders(encoder, run_arguments, data_dir, task):
    arguments = FinetuneArguments(
        model_name_or_path=encoder,
        glue_dir=str(data_dir / "glue"),
        task_name=task,
        max_train_samples=16,
        max_eval_samples=16,
        max_seq_length=32,
    )
    metrics = finetune(arguments, run_arguments(max_steps=1)).metrics
    expected = {
        "CoLA": {"eval_mcc"},
        "MRPC": {"eval_f1", "eval_accuracy"},
        "MNLI": {"eval_dev_matched_accuracy", "eval_dev_mismatched_accuracy", "eval_dev_matched_majority_accuracy"},
        "STS-B": {"eval_pearson", "eval_spearman"},
    }
    assert expected[task] <= set(metrics)


def test_the_start_is_the_encoder_or_its_configuration_alone(encoder, files, run_arguments, tmp_path):
    trained = AutoModelForSequenceClassification.from_pretrained(f"{encoder}/discriminator").model.state_dict()
    for name in ("fine", "scratch"):
        arguments = FinetuneArguments(model_name_or_path=encoder, from_scratch=name == "scratch", **files)
        result = finetune(arguments, run_arguments(name, max_steps=1, learning_rate=0.0))
        found = AutoModelForSequenceClassification.from_pretrained(result.output_dir).model.state_dict()
        same = all(torch.equal(weight, found[key]) for key, weight in trained.items())
        assert same == (name == "fine")


def test_hugging_face_encoders(files, run_arguments, encoder, tmp_path):
    config = BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    arguments = FinetuneArguments(
        model_name_or_path=str(tmp_path / "bert"), tokenizer_name=f"{encoder}/discriminator", **files
    )
    assert "eval_accuracy" in finetune(arguments, run_arguments()).metrics


def test_presets_start_from_random_weights(files, run_arguments, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *_GOOD, *_BAD, "the", "kernel"]) + "\n")
    arguments = FinetuneArguments(preset="electra-small", vocab_file=str(tmp_path / "vocab.txt"), **files)
    result = finetune(arguments, run_arguments(max_steps=1))
    model = AutoModelForSequenceClassification.from_pretrained(result.output_dir)
    assert model.config.vocab_size == 15 and model.config.num_hidden_layers == 12


def test_resumed_run_equals_the_unbroken_one(encoder, files, run_arguments, losses, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 7, "save_total_limit": 9, "logging_steps": 5}
    arguments = FinetuneArguments(model_name_or_path=encoder, **files)
    whole = finetune(arguments, run_arguments("whole", max_steps=24, **settings))
    checkpoint = str(tmp_path / "whole" / "checkpoint-7")
    resumed = finetune(arguments, run_arguments("resumed", max_steps=24, resume_from_checkpoint=checkpoint, **settings))
    logged = losses(tmp_path / "whole")
    assert len(logged) == 4 and losses(tmp_path / "resumed") == logged
    assert whole.metrics["eval_loss"] == resumed.metrics["eval_loss"]


def test_best_model_at_the_end(encoder, files, run_arguments, tmp_path):
    run = run_arguments(
        max_steps=6,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        save_total_limit=1,
        learning_rate=3e-3,
    )
    result = finetune(FinetuneArguments(model_name_or_path=encoder, **files), run)
    during = [entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry]
    assert result.metrics["eval_accuracy"] == max(during[:3])
    kept = list((tmp_path / "fine").glob("checkpoint-*"))
    assert 1 <= len(kept) <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": None}, "give either --model_name_or_path or --preset"),
        ({"model_name_or_path": None, "preset": "bert-small"}, "has no tokenizer"),
        ({"train_file": None, "validation_file": None}, "give one of --train_file, --glue_dir"),
        ({"text_source": "builtin"}, "give one of --train_file, --glue_dir"),
        ({"glue_dir": "x", "train_file": None, "validation_file": None}, "--glue_dir and --task_name go together"),
        ({"model_name_or_path": "."}, "holds no model"),
        ({"sentence1_column": "body"}, "train.tsv, line 2: no column 'body'"),
        ({"max_seq_length": 10_000}, "above the model's max_position_embeddings"),
        ({"max_train_samples": 0}, "--max_train_samples"),
    ],
)
def test_bad_input_is_one_sentence(encoder, files, run_arguments, tmp_path, changes, message):
    arguments = replace(FinetuneArguments(model_name_or_path=encoder, **files), **changes)
    with pytest.raises(InputError, match=message):
        finetune(arguments, run_arguments())
    assert not (tmp_path / "fine").exists()


def test_unknown_label_is_named(encoder, files, run_arguments, tmp_path):
    with open(tmp_path / "dev.tsv", "a") as file:
        file.write("fast kernel\tgoood\n")
    with pytest.raises(InputError, match="dev.tsv, line 62: unknown label 'goood', expected one of 'bad', 'good'"):
        finetune(FinetuneArguments(model_name_or_path=encoder, **files), run_arguments())


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda weights, name: weights.pop(name), "lacks 1 weights of the encoder, such as"),
        (lambda weights, name: weights.update({name: weights[name][:3].clone()}), "has 1 weights of another shape"),
    ],
)
def test_weights_that_are_missing_or_misshaped_are_an_error(encoder, files, run_arguments, tmp_path, harm, said):
    path = f"{encoder}/discriminator/model.safetensors"
    weights = load_file(path)
    harm(weights, "model.encoder.blocks.0.sublayers.0.function.query.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{said}.* model.encoder.blocks.0"):
        finetune(FinetuneArguments(model_name_or_path=encoder, **files), run_arguments())


def test_hub_names_without_a_network(encoder, run_arguments, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    arguments = FinetuneArguments(model_name_or_path=encoder, dataset_name="nyu-mll/glue", dataset_config_name="rte")
    with pytest.raises(InputError, match="'nyu-mll/glue' could not be loaded from the hub.*--text_source builtin"):
        finetune(arguments, run_arguments())
