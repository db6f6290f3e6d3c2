"""A run of compression: what trains, what is logged, what comes out."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    ConvBertConfig,
    ConvBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    TrainerCallback,
)

from bertkernels.bench.timing import milliseconds
from bertkernels.cli.main import main
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.theseus.gates import draw_gates
from bertkernels.training.theseus.run import theseus
from bertkernels.training.training_arguments import FinetuneRunArguments


class Watch(TrainerCallback):
    """Keeps the optimizer and which weights had a gradient."""

    def __init__(self):
        self.gradients, self.state = [], 0

    def on_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.gradients.append({name for name, weight in model.named_parameters() if weight.grad is not None})
        self.state = sum(x.numel() for s in optimizer.state.values() for x in s.values() if torch.is_tensor(x))


def weights_of(folder):
    return load_file(f"{folder}/model.safetensors")


def test_only_the_successor_trains(compression, predecessor):
    arguments, run = compression(scheduler_type="linear", scheduler_linear_k=0.1)
    watch = Watch()
    result = theseus(arguments, run, [watch])
    before, after = weights_of(predecessor()), weights_of(result.output_dir)
    for name, weight in after.items():
        if not name.startswith("model.encoder."):
            assert torch.equal(weight, before[name]), name
    moved = [name for name, weight in after.items() if not torch.equal(weight, before[name])]
    assert moved and all(name.startswith("model.encoder.") for name in moved)
    assert watch.gradients[-1] == {name for name in after if name.startswith("model.encoder.")}
    trained = sum(after[name].numel() for name in watch.gradients[-1])
    assert 2 * trained <= watch.state < 2 * trained + 100  # two moments, and a count of steps for each weight


def test_modules_that_were_never_replaced_stay_as_they_were(compression, predecessor):
    """By then one module has been replaced, with weight decay and momentum; of the other nothing is known."""
    seed = next(s for s in range(100) if [draw_gates(s, t, 0, 0.5, 2) for t in (0, 1)] == [(True, False)] * 2)
    watch = Watch()
    arguments, run = compression(run={"seed": seed, "max_steps": 2, "weight_decay": 0.1})
    result = theseus(arguments, run, [watch])
    before, after = weights_of(predecessor()), weights_of(result.output_dir)
    first, second = ({name for name in after if f"blocks.{index}." in name} for index in range(2))
    assert watch.gradients == [first, first]
    assert all(torch.equal(after[name], before[name]) for name in second)
    assert any(not torch.equal(after[name], before[name]) for name in first)


def test_a_module_that_is_left_out_once_goes_on_by_its_momentum(compression):
    wanted = [(True, True), (False, True)]
    seed = next(s for s in range(1000) if [draw_gates(s, t, 0, 0.5, 2) for t in (0, 1)] == wanted)
    watch, states = Watch(), []

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            states.append(model.model.encoder.blocks[0].sublayers[0].function.query.weight.detach().clone())

    arguments, run = compression(run={"seed": seed, "max_steps": 2, "lr_scheduler_type": "constant"})
    theseus(arguments, run, [watch, Keep()])
    assert watch.gradients[0] == watch.gradients[1]
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize("clip", ["trained", "original"])
def test_no_module_replaced_at_all(compression, clip):
    """Steps in which no trained weight takes part: nothing moves, and nothing breaks."""
    seed = next(s for s in range(100) if not any(any(draw_gates(s, t, 0, 0.1, 2)) for t in range(3)))
    arguments, run = compression(replacing_rate=0.1, clip=clip, run={"seed": seed, "max_steps": 3})
    result = theseus(arguments, run)
    before = weights_of(arguments.model_name_or_path)
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(result.output_dir).items())


def test_head_and_embeddings_on_request(compression, predecessor):
    arguments, run = compression(train_head=True, train_embeddings=True)
    result = theseus(arguments, run)
    before, after = weights_of(predecessor()), weights_of(result.output_dir)
    for name in ("model.pooler.weight", "classifier.output.weight", "model.embeddings.word_embeddings.weight"):
        assert not torch.equal(before[name], after[name]), name


def test_training_memory_is_below_that_with_gradients_everywhere(compression):
    """As the log has it, and as the tensors are."""
    measured = {}
    for clip in ("trained", "original"):
        arguments, run = compression(clip, clip=clip, run={"max_steps": 3, "logging_steps": 1})
        entries = [entry for entry in theseus(arguments, run).log if "state_mb" in entry]
        measured[clip] = entries[-1]["state_mb"]
    successor = weights_of(run.output_dir)
    blocks = sum(w.numel() for name, w in successor.items() if name.startswith("model.encoder.")) * 4 / 2**20
    assert measured["trained"] == pytest.approx(3 * blocks, rel=0.01)
    assert measured["original"] > measured["trained"]


def test_the_log_has_rate_and_use_of_each_module(compression, losses):
    arguments, run = compression(
        scheduler_type="linear", scheduler_linear_k=0.1, run={"logging_steps": 4, "gradient_accumulation_steps": 2}
    )
    result = theseus(arguments, run)
    entries = losses(result.output_dir)
    for entry, steps in zip(entries, (range(4), range(4, 8)), strict=True):
        rates = [min(1, 0.5 + 0.1 * step) for step in steps]
        assert entry["replacing_rate"] == pytest.approx(sum(rates) / 4)
        drawn = [
            draw_gates(42, step, micro, rate, 2) for step, rate in zip(steps, rates, strict=True) for micro in (0, 1)
        ]
        for module in range(2):
            assert entry[f"replaced_{module}"] == pytest.approx(sum(gates[module] for gates in drawn) / 8)


def test_the_bar_shows_rate_and_gates(compression, capsys):
    arguments, run = compression(run={"max_steps": 2, "disable_tqdm": False})
    theseus(arguments, run)
    gates = "".join("01"[replaced] for replaced in draw_gates(42, 1, 0, 0.5, 2))
    assert f"rate 0.500 replaced {gates}" in capsys.readouterr().err


def test_own_rate_of_the_successor_only_phase(compression):
    arguments, run = compression(
        steps_for_replacing=3,
        successor_learning_rate=2e-4,
        run={"max_steps": 7, "logging_steps": 1, "lr_scheduler_type": "constant"},
    )
    rates = [entry["learning_rate"] for entry in theseus(arguments, run).log if "loss" in entry]
    assert rates == pytest.approx([1e-3] * 3 + [2e-4 * left / 4 for left in (4, 3, 2, 1)])


def test_distillation_pulls_towards_the_predecessor(compression):
    """With nothing but the predecessor's logits to learn, the successor comes to agree with it."""
    arguments, run = compression(
        replacing_rate=1.0, distillation_weight=1.0, distillation_temperature=2.0, run={"max_steps": 40}
    )
    log = [entry["loss"] for entry in theseus(arguments, run).log if "loss" in entry]
    assert log[-1] < 0.5 * log[0]


def test_result_predicts_reports_and_loads_in_stock_tools(compression, bert, files, tmp_path, capsys):
    arguments, run = compression(
        model_name_or_path=bert(), module_table=True, measure_seconds=0.05, run={"max_steps": 6}
    )
    result = theseus(arguments, run, measure=milliseconds)
    printed = capsys.readouterr().out
    assert "4*(attention ffn)" in printed and "2*(attention ffn)" in printed
    assert "the successor is never trained alone" in printed
    folder = result.output_dir
    report = json.loads((folder / "compression.json").read_text())
    assert [row["replaced"] for row in report["scores"]] == ["none", "0", "1", "all"]
    assert report["scores"][-1]["score"] == pytest.approx(result.main_score)
    assert report["predecessor"]["block_parameters"] == 2 * report["successor"]["block_parameters"]
    assert report["speedup"] > 0 and report["huggingface"] == "BertForSequenceClassification"
    assert "| replaced | blocks | accuracy | change |" in (folder / "compression.md").read_text()

    ours = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert isinstance(ours, EncoderForSequenceClassification) and ours.config.num_hidden_layers == 2
    stock = BertForSequenceClassification.from_pretrained(folder / "huggingface").eval()
    assert stock.config.num_hidden_layers == 2 and stock.config.id2label == {0: "bad", 1: "good"}
    tokenizer = AutoTokenizer.from_pretrained(folder / "huggingface")
    batch = tokenizer(["the fast kernel", "slow and large row until"], padding=True, return_tensors="pt")
    torch.testing.assert_close(stock(**batch).logits, ours(**batch).logits, atol=1e-5, rtol=1e-5)
    assert not any("scc" in name or ".2." in name for name in weights_of(folder / "huggingface"))

    flags = ["--model_name_or_path", str(folder), "--test_file", files["validation_file"], "--use_cpu"]
    flags += ["--max_seq_length", "16"]
    assert main(["predict", *flags, "--output_dir", str(tmp_path / "predictions"), "--disable_tqdm"]) == 0
    assert (tmp_path / "predictions").is_dir()


@pytest.mark.parametrize("kind", ["electra", "convbert"])
def test_other_predecessors_of_hugging_face(compression, bert, tmp_path, kind):
    config_class, model_class = {
        "electra": (ElectraConfig, ElectraForSequenceClassification),
        "convbert": (ConvBertConfig, ConvBertForSequenceClassification),
    }[kind]
    tokenizer = AutoTokenizer.from_pretrained(bert())
    sizes = {"hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4, "intermediate_size": 64}
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    torch.manual_seed(0)
    config = config_class(**sizes, **labels, num_hidden_layers=4, vocab_size=len(tokenizer))
    model_class(config).save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    arguments, run = compression(model_name_or_path=str(tmp_path / kind), run={"max_steps": 2})
    folder = theseus(arguments, run).output_dir
    report = json.loads((folder / "compression.json").read_text())
    assert report["huggingface"] == model_class.__name__
    assert report["successor"]["plan"] == f"2*({'mixed' if kind == 'convbert' else 'attention'} ffn)"


@pytest.mark.parametrize("plan", ["2*(mixed ffn)", "2*(dynamic_conv ffn)"])
def test_successors_of_another_kind(compression, plan):
    arguments, run = compression(successor_plan=plan, run={"max_steps": 2})
    result = theseus(arguments, run)
    assert AutoModelForSequenceClassification.from_pretrained(result.output_dir).config.plan == plan
    report = json.loads((result.output_dir / "compression.json").read_text())
    assert report["huggingface"].startswith("not written: ")
    assert 0 <= result.metrics["eval_accuracy"] <= 1


def test_the_best_on_dev_is_kept(compression):
    arguments, run = compression(
        best_on_dev=True,
        early_stopping_patience=2,
        run={"eval_strategy": "steps", "eval_steps": 2, "max_steps": 12, "learning_rate": 3e-3},
    )
    result = theseus(arguments, run)
    scores = [entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry]
    assert result.main_score == max(scores)


def test_a_compressed_model_is_fine_tuned_on_another_task(compression, files, tmp_path):
    """Compress once, then fine-tune elsewhere: another number of labels gets a head of its own."""
    folder = theseus(*compression(run={"max_steps": 2})).output_dir
    rows = ["sentence\tlabel"] + [f"{word} row\t{word}" for word in ("fast", "slow", "kernel")] * 4
    (tmp_path / "three.tsv").write_text("\n".join(rows) + "\n")
    run = FinetuneRunArguments(
        output_dir=str(tmp_path / "three"), max_steps=2, use_cpu=True, disable_tqdm=True, report_to="none"
    )
    arguments = FinetuneArguments(
        model_name_or_path=str(folder), train_file=str(tmp_path / "three.tsv"), max_seq_length=16
    )
    result = finetune(arguments, run)
    model = AutoModelForSequenceClassification.from_pretrained(result.output_dir)
    assert model.config.num_labels == 3 and model.config.num_hidden_layers == 2


def test_recomputed_activations_change_nothing(compression, predecessor):
    folder = predecessor(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    found = {}
    for recompute in (False, True):
        arguments, run = compression(
            f"recompute-{recompute}",
            model_name_or_path=folder,
            run={"gradient_checkpointing": recompute, "max_steps": 3},
        )
        found[recompute] = weights_of(theseus(arguments, run).output_dir)
    for name, weight in found[False].items():
        torch.testing.assert_close(found[True][name], weight, atol=1e-6, rtol=0, msg=name)


def test_a_checkpoint_of_the_released_code(compression, bert, tmp_path):
    """It goes on with the successor that it holds, of as many modules."""
    folder = bert()
    weights = weights_of(folder)
    for name in [name for name in weights if ".encoder.layer.0." in name or ".encoder.layer.3." in name]:
        layer = "1" if ".3." in name else "0"
        weights[name.replace(".layer.0.", f".scc_layer.{layer}.").replace(".layer.3.", f".scc_layer.{layer}.")] = (
            weights[name] + 0.5
        )
    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "bert" / "pytorch_model.bin")
    arguments, run = compression(
        model_name_or_path=folder, successor_blocks=None, run={"max_steps": 1, "learning_rate": 0.0}
    )
    after = weights_of(theseus(arguments, run).output_dir)
    query = "attention.self.query.weight"
    for block in range(2):
        wanted = weights[f"bert.encoder.scc_layer.{block}.{query}"]
        assert torch.equal(after[f"model.encoder.blocks.{block}.sublayers.0.function.query.weight"], wanted)


def test_an_encoder_without_a_head_gives_first_weights(compression, bert):
    """Of as many blocks as there are modules."""
    folder = bert("pretrained", BertModel)
    arguments, run = compression(
        model_name_or_path=bert(),
        successor_blocks="4",
        successor_init=folder,
        run={"max_steps": 1, "learning_rate": 0.0},
    )
    after, given = weights_of(theseus(arguments, run).output_dir), weights_of(folder)
    name = "encoder.layer.3.attention.self.query.weight"
    assert torch.equal(after["model.encoder.blocks.3.sublayers.0.function.query.weight"], given[name])


_QUESTIONS = {
    "data": [
        {
            "title": "rows",
            "paragraphs": [
                {
                    "context": "the fast kernel and the slow row",
                    "qas": [
                        {
                            "id": f"q{number}",
                            "question": "the row",
                            "answers": [{"text": "slow row", "answer_start": 24}],
                        }
                        for number in range(8)
                    ],
                }
            ],
        }
    ]
}


@pytest.mark.parametrize("kind", ["ner", "squad", "multiple_choice"])
def test_other_kinds_of_task(compression, bert, tmp_path, kind):
    """Fine-tuned and compressed with distillation on words, questions and choices."""
    if kind == "squad":
        (tmp_path / "squad").mkdir()
        for name in ("train-v1.1.json", "dev-v1.1.json"):
            (tmp_path / "squad" / name).write_text(json.dumps(_QUESTIONS))
        task = {"squad_dir": str(tmp_path / "squad"), "max_query_length": 4, "doc_stride": 4, "qa_head": "plain"}
    elif kind == "ner":
        (tmp_path / "words.txt").write_text("fast B-X\nkernel I-X\nand O\nrow O\n\n" * 8)
        task = {"train_file": str(tmp_path / "words.txt"), "validation_file": str(tmp_path / "words.txt")}
    else:
        rows = [{"context": "the row", "choices": ["fast", "slow kernel"], "label": number % 2} for number in range(8)]
        (tmp_path / "choices.jsonl").write_text("\n".join(map(json.dumps, rows)))
        task = {"train_file": str(tmp_path / "choices.jsonl"), "validation_file": str(tmp_path / "choices.jsonl")}
    task |= {"task_name": kind, "max_seq_length": 24}
    run = FinetuneRunArguments(
        output_dir=str(tmp_path / "fine"), max_steps=1, use_cpu=True, disable_tqdm=True, report_to="none"
    )
    finetune(FinetuneArguments(model_name_or_path=bert("pretrained", BertModel), **task), run)
    arguments, run = compression(
        model_name_or_path=str(tmp_path / "fine"),
        module_table=True,
        measure_seconds=0.02,
        distillation_weight=0.5,
        run={"max_steps": 2},
    )
    arguments.train_file = arguments.validation_file = None
    for name, value in task.items():
        setattr(arguments, name, value)
    result = theseus(arguments, run, measure=milliseconds)
    report = json.loads((result.output_dir / "compression.json").read_text())
    assert len(report["scores"]) == 4 and report["speedup"] > 0
    assert report["huggingface"].startswith("BertFor")
    assert result.main_score is not None
