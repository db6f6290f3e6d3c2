"""A module-replacing BERT against what the released BERT-of-Theseus computed: rates, outputs, gradients, four steps."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, TrainerCallback

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.convert.from_huggingface import convert_huggingface
from bertkernels.models.convert.huggingface_names import model_names
from bertkernels.models.convert.theseus import PREDECESSOR
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.module_map import parse_module_map
from bertkernels.models.replacing import ReplacingEncoder
from bertkernels.models.successor import build_successor, replace_modules
from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments
from bertkernels.training.theseus.models import Predecessor, build_pair
from bertkernels.training.theseus.rates import ConstantRate, LinearRate
from bertkernels.training.theseus.trainer import TheseusSettings, TheseusTrainer

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3  # of a gradient's norm


@pytest.mark.recordings("theseus/schedulers.json")
def test_rates(recording):
    for case in json.loads(recording.read_text()):
        settings = case["kwargs"]
        make = {
            "constant": lambda given: ConstantRate(given["replacing_rate"], given.get("replacing_steps")),
            "linear": lambda given: LinearRate(given["base_replacing_rate"], given["k"]),
        }[case["kind"]]
        if "error" in case:
            with pytest.raises(InputError, match="must be above 0 and at most 1|must not be negative"):
                make(settings)
            continue
        if settings.get("replacing_steps") == 0:
            with pytest.raises(InputError, match="in the released code 0, its default, is one step"):
                make(settings)
            settings = {**settings, "replacing_steps": 1}  # which is what it does there
        rate = make(settings)
        steps = range(case["n_steps"])
        assert [float(np.float32(rate(step))) for step in steps] == case["encoder_rate_used_for_batch"]
        assert [rate(step + 1) for step in steps] == case["returned_by_step"]
        assert float(np.float32(rate(case["n_steps"]))) == case["encoder_rate_after_last_step"]


class Case:
    """The recorded checkpoint in a folder as the released code saves it, read through conversion."""

    def __init__(self, recording, folder, prefix="sd/"):
        with np.load(recording) as arrays:
            self.arrays = dict(arrays)
        weights = {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}
        meta = json.loads(recording.with_name("meta.json").read_text())
        self.meta = meta.get(recording.stem)
        sizes = meta["_".join(recording.stem.split("_")[-2:])]["config"]
        BertConfig(**sizes, architectures=["BertForSequenceClassification"]).save_pretrained(folder)
        torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, folder / "pytorch_model.bin")
        self.folder = folder
        self.predecessor = convert_huggingface(folder, half=PREDECESSOR).model
        given = convert_huggingface(folder)
        assert given.notes == ["a checkpoint of BERT-of-Theseus: left out is its predecessor"]
        blocks = self.predecessor.config.num_hidden_layers
        module_map = parse_module_map(str(given.model.config.num_hidden_layers), blocks)
        self.model = build_successor(self.predecessor, module_map, init=given.model).model
        replace_modules(self.model, self.predecessor, module_map)

    def inputs(self):
        names = ("input_ids", "attention_mask", "token_type_ids", "labels")
        return {name: torch.from_numpy(self.arrays[f"in/{name}"]) for name in names}

    def weights(self):
        """Every weight by the name that it has there: the successor's, and all of the predecessor's."""
        config, before = self.model.config, self.predecessor.config
        found = {}
        for model, ours in ((self.predecessor, before), (self.model, config)):
            parameters = dict(model.named_parameters())
            for name, theirs in model_names("bert", "classifier", ours).items():
                renamed = theirs.name
                if model is self.model:
                    renamed = renamed.replace("encoder.layer.", "encoder.scc_layer.")
                found[renamed] = parameters[name]
        return found


@pytest.fixture(scope="module")
def case(recording, tmp_path_factory):
    return Case(recording, tmp_path_factory.mktemp("theseus"))


_FORWARDS = pytest.mark.recordings("theseus/l*_s*.npz")


def gates_of(case, run):
    modules = len(case.model.model.encoder.module_map)
    if run.endswith("rate1"):
        return (True,) * modules
    if run.endswith("rate0"):
        return (False,) * modules
    return tuple(bool(draw) for draw in case.arrays[f"{run}/draws"])


def compare(case, run, output):
    arrays = case.arrays
    torch.testing.assert_close(output.loss, torch.tensor(arrays[f"{run}/loss"]), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(output.logits, torch.from_numpy(arrays[f"{run}/logits"]), atol=TOLERANCE, rtol=0)
    states = sorted(name for name in arrays if name.startswith(f"{run}/hidden_"))
    assert len(states) == len(output.hidden_states) == arrays[f"{run}/n_layers_run"] + 1
    real = case.inputs()["attention_mask"].bool()
    for name, found in zip(states, output.hidden_states, strict=True):
        torch.testing.assert_close(found[real], torch.from_numpy(arrays[name])[real], atol=TOLERANCE, rtol=0)
    attentions = output.attentions[-1].transpose(1, 2)[real]
    wanted = torch.from_numpy(arrays[f"{run}/attn_last"]).transpose(1, 2)[real]
    torch.testing.assert_close(attentions, wanted, atol=TOLERANCE, rtol=0)


@_FORWARDS
def test_outputs(case):
    runs = sorted({name.split("/")[0] for name in case.arrays if name.endswith("/loss")})
    assert {"eval_successor", "train_rate0", "train_rate1", "mix_a", "mix_b"} <= set(runs)
    asked = {"output_hidden_states": True, "output_attentions": True}
    for run in runs:
        if run == "eval_successor_after_init_from_predecessor":
            model = build_successor(case.predecessor, case.model.model.encoder.module_map).model.eval()
            compare(case, run, model(**case.inputs(), **asked))
            continue
        evaluated = run == "eval_successor"
        case.model.train(not evaluated)
        case.model.model.encoder.gates = None if evaluated else gates_of(case, run)
        compare(case, run, case.model(**case.inputs(), **asked))
        case.model.model.encoder.gates = None


@_FORWARDS
def test_gradients(case):
    runs = sorted({name.split("/")[0] for name in case.arrays if "/grad/" in name})
    assert runs
    weights = case.weights()
    outside = dict(case.model.named_parameters())
    for run in runs:
        case.model.train().zero_grad()
        case.predecessor.zero_grad()
        case.model.model.encoder.gates = gates_of(case, run)
        case.model(**case.inputs()).loss.backward()
        case.model.model.encoder.gates = None
        wanted = {name.split("/grad/")[1]: array for name, array in case.arrays.items() if name.startswith(f"{run}/gr")}
        # a key's bias has no gradient (softmax does not see it), so its recorded rounding errors need a floor
        floor = 1e-7 * np.sqrt(sum(np.square(gradient).sum() for gradient in wanted.values()))
        for name, gradient in wanted.items():
            found = weights[name].grad
            if found is None:  # embeddings, pooler and classifier are the successor's own
                found = next(outside[n].grad for n, p in outside.items() if p is weights[name])
            gradient = torch.from_numpy(gradient)
            assert (found - gradient).norm() <= GRADIENT_TOLERANCE * gradient.norm() + floor, (run, name)
        trained = {name for name in weights if ".encoder." in name and weights[name].grad is not None}
        assert trained == {name for name in wanted if ".encoder." in name} | _without_gradient(weights, trained, floor)


def _without_gradient(weights, names, floor):
    """Of these, weights whose gradients are but rounding errors, which the recording may have left out."""
    return {name for name in names if weights[name].grad.norm() <= floor}


@_FORWARDS
def test_the_converted_checkpoint_is_the_successor(case, tmp_path):
    assert main(["convert", str(case.folder), str(tmp_path / "ours")]) == 0
    model = EncoderForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert model.config.num_hidden_layers == len(case.model.model.encoder.blocks)
    logits = model(**case.inputs()).logits
    torch.testing.assert_close(logits, torch.from_numpy(case.arrays["eval_successor/logits"]), atol=TOLERANCE, rtol=0)
    assert not isinstance(model.model.encoder, ReplacingEncoder)


class _Recorder(TrainerCallback):
    """Keeps what the trainer had after each step, and stops after the last that was recorded."""

    def __init__(self, steps):
        self.steps, self.weights, self.rates = steps, [], []

    def on_step_begin(self, args, state, control, lr_scheduler=None, **kwargs):
        self.rates.append(lr_scheduler.get_last_lr()[0])

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})
        control.should_training_stop = state.global_step == self.steps


@pytest.mark.recordings("theseus/train_*steps_*.npz")
def test_recorded_steps(recording, tmp_path, monkeypatch):
    """Clipping over all gradients, zero gradients of modules that a batch leaves out, frozen everything else."""
    case = Case(recording, tmp_path / "checkpoint", prefix="sd0/")
    arrays, settings = case.arrays, case.meta
    steps = sum(name.startswith("loss") for name in arrays)
    arguments = TheseusArguments(clip="original", replacing_rate=settings["linear_base"])
    pair = build_pair(Predecessor(case.predecessor, convert_huggingface(case.folder).model), arguments)
    before = {name: weight.clone() for name, weight in pair.model.state_dict().items()}
    rate = LinearRate(settings["linear_base"], settings["linear_k"])
    assert [float(np.float32(rate(step))) for step in range(steps)] == pytest.approx(
        [float(arrays[f"rate_used{step + 1}"]) for step in range(steps)], abs=0
    )
    monkeypatch.setattr(
        "bertkernels.training.theseus.trainer.draw_gates",
        lambda seed, step, *_: tuple(bool(draw) for draw in arrays[f"draws{step + 1}"]),
    )
    run = TheseusRunArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=settings["total"],
        optimizer="early_adamw",
        learning_rate=settings["lr"],
        warmup_steps=settings["warmup"],
        weight_decay=settings["weight_decay"],
        adam_epsilon=settings["eps"],
        max_grad_norm=settings["max_grad_norm"],
        per_device_train_batch_size=len(arrays["in/labels"]),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    recorder = _Recorder(steps)
    trainer = TheseusTrainer(
        pair=pair,
        settings=TheseusSettings(rate, clip="original"),
        args=run,
        task=None,
        train_dataset=Dataset.from_dict({name: value.tolist() for name, value in case.inputs().items()}),
        evaluation={},
        callbacks=[recorder],
    )
    trainer.train()

    np.testing.assert_allclose(recorder.rates[:steps], [arrays[f"lr_used{step + 1}"] for step in range(steps)])
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = model_names("bert", "classifier", pair.model.config)
    for step, (weights, entry) in enumerate(zip(recorder.weights, logged, strict=True), 1):
        assert entry["loss"] == pytest.approx(float(arrays[f"loss{step}"]), abs=TOLERANCE)
        assert entry["grad_norm"] == pytest.approx(float(arrays[f"grad_norm_all{step}"]), rel=GRADIENT_TOLERANCE)
        for name, weight in weights.items():
            if name not in pair.trained:
                assert torch.equal(weight, before[name]), name
            elif not name.endswith("key.bias"):  # whose gradients are rounding errors, which Adam makes steps of
                layer = names[name].name.removeprefix("bert.encoder.layer.")
                wanted = torch.from_numpy(arrays[f"scc_layer{step}/{layer}"])
                torch.testing.assert_close(weight, wanted, atol=TOLERANCE, rtol=0, msg=f"{name} after step {step}")
