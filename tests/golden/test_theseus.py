"""A module-replacing BERT against what the released BERT-of-Theseus computed: rates, outputs, gradients, four steps."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.convert.from_huggingface import convert_huggingface
from bertkernels.models.convert.huggingface_names import model_names
from bertkernels.models.convert.theseus import PREDECESSOR
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.module_map import parse_module_map
from bertkernels.models.replacing import ReplacingEncoder
from bertkernels.models.successor import build_successor, replace_modules
from bertkernels.training.theseus.rates import ConstantRate, LinearRate

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
