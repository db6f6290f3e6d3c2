"""Training of supernets: paths, what moves and what does not, resumes, and several processes."""

import json
from collections import Counter

import pytest
import torch
from transformers import TrainerCallback

from bertkernels.errors import InputError
from bertkernels.models.electra import ElectraForPreTraining
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.slot import Slot
from bertkernels.models.supernet import inherited_model, is_supernet
from bertkernels.training.path_sampling import PATH_SAMPLERS
from bertkernels.training.pretrain import PretrainArguments, pretrain
from bertkernels.training.pretrain_arguments import check_arguments
from bertkernels.training.training_arguments import PretrainRunArguments

KINDS = ["attention", "ffn", "dynamic_conv"]


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", PATH_SAMPLERS)
def test_paths_depend_on_seed_and_step_alone(strategy):
    make = PATH_SAMPLERS[strategy]
    paths = [make(KINDS, 6, seed=1).path(step) for step in range(30)]
    again = make(KINDS, 6, seed=1)
    assert paths == [again.path(step) for step in reversed(range(30))][::-1]
    assert paths != [make(KINDS, 6, seed=2).path(step) for step in range(30)]
    assert all(len(path) == 6 and set(path) <= set(KINDS) for path in paths)
    assert len(set(paths)) > 20


def test_uniform_paths_are_uniform():
    sampler = PATH_SAMPLERS["uniform"](KINDS, 4, seed=0)
    paths = [sampler.path(step) for step in range(3000)]
    for slot in range(4):
        counts = Counter(path[slot] for path in paths)
        assert all(abs(counts[kind] - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for kind in KINDS), counts
    pairs = Counter((path[0], path[3]) for path in paths)
    assert len(pairs) == 9 and all(abs(count - 333) < 5 * (3000 * 8 / 81) ** 0.5 for count in pairs.values())


def test_balanced_paths_are_never_more_than_a_step_apart():
    sampler = PATH_SAMPLERS["balanced"](KINDS, 4, seed=0)
    counts = [Counter() for _ in range(4)]
    for step in range(300):
        for slot, kind in enumerate(sampler.path(step)):
            counts[slot][kind] += 1
        for slot in counts:
            assert max(slot[kind] for kind in KINDS) - min(slot[kind] for kind in KINDS) <= 1
        if step % 3 == 2:
            assert all(slot[kind] == (step + 1) // 3 for slot in counts for kind in KINDS)
    firsts = {tuple(sampler.path(step)) for step in range(0, 300, 3)}
    assert len(firsts) > 50, "orders are drawn anew"


# -- training ----------------------------------------------------------------------------------------------------------


class _Watch(TrainerCallback):
    """Before and after each step: which sub-layers were on the path, which weights changed, who has moments."""

    def __init__(self):
        self.seen = []

    def _weights(self, model):
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before = self._weights(model)
        slots = {name: slot for name, slot in model.named_modules() if isinstance(slot, Slot)}
        self.on_path = tuple(f"{name}.{slot.chosen}." for name, slot in slots.items())
        self.off_path = [
            name
            for name in self.before
            if name.startswith(tuple(f"{slot}." for slot in slots)) and not name.startswith(self.on_path)
        ]

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.without = {name for name, weight in model.named_parameters() if weight.grad is None}

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        after = self._weights(model)
        moved = {name for name in after if not torch.equal(after[name], self.before[name])}
        optimizer = getattr(optimizer, "optimizer", optimizer)
        names = {id(weight): name for name, weight in model.named_parameters()}
        states = {names[id(weight)] for weight, held in optimizer.state.items() if held}
        steps = {names[id(weight)]: int(held["step"]) for weight, held in optimizer.state.items() if "step" in held}
        self.seen.append((set(self.on_path), set(self.off_path), moved, self.without, states, steps))


@pytest.mark.parametrize("optimizer", ["torch", "bert_adam"])
def test_what_is_off_the_path_stands_still(supernet, tmp_path, optimizer):
    """No weight decay, no momentum, no moments before the first update, no gradients kept."""
    watch = _Watch()
    arguments, run = supernet(
        tmp_path / "run", max_steps=8, learning_rate=1e-2, weight_decay=0.1, optimizer=optimizer, save_strategy="no"
    )
    pretrain(arguments, run, [watch])
    trained = Counter()
    assert len(watch.seen) == 8
    for number, (on_path, off_path, moved, without, states, steps) in enumerate(watch.seen, 1):
        assert off_path and off_path == without
        if number > 1:  # the first step's rate may be 0
            assert not moved & off_path
            assert any(name.startswith(tuple(on_path)) for name in moved)
        trained.update(on_path)
        held = {name for name in states if ".sublayers." in name}
        assert all(name.startswith(tuple(trained)) for name in held)
        assert {prefix for prefix in trained if any(name.startswith(prefix) for name in held)} == set(trained)
        for name, count in steps.items():
            expected = next((trained[prefix] for prefix in trained if name.startswith(prefix)), number)
            assert count == expected, name
    assert len(set(map(frozenset, (step[0] for step in watch.seen)))) > 4


def test_counts_are_logged_and_saved(supernet, losses, tmp_path):
    arguments, run = supernet(tmp_path / "run", {"path_sampling": "balanced"}, max_steps=12, save_steps=5)
    pretrain(arguments, run)
    counts = json.loads((tmp_path / "run" / "slot_updates.json").read_text())
    assert counts == {kind: [4] * 4 for kind in KINDS}
    assert is_supernet(EncoderForMaskedLM.from_pretrained(tmp_path / "run"))
    assert [(entry["slot_updates_min"], entry["slot_updates_max"]) for entry in losses(tmp_path / "run")] == [
        (1, 2),
        (3, 4),
    ]

    # what goes on from it counts on
    further = {"model_name_or_path": str(tmp_path / "run"), "path_sampling": "balanced"}
    for name in ("preset", "plan", "hidden_size", "embedding_size", "num_attention_heads", "intermediate_size"):
        further[name] = None
    arguments, run = supernet(tmp_path / "further", {**further, "supernet_kinds": None}, max_steps=3)
    pretrain(arguments, run)
    assert json.loads((tmp_path / "further" / "slot_updates.json").read_text()) == {kind: [5] * 4 for kind in KINDS}


_OBJECTIVES = {
    "electra": {"objective": "electra", "generator_size": 0.5},
    "electra_both": {"objective": "electra", "generator_size": 0.5, "supernet_generator": True},
    "masked_lm_nsp": {"objective": "masked_lm_nsp", "packing": "bert_pairs"},
}


@pytest.mark.parametrize("objective", _OBJECTIVES)
def test_every_objective_trains_one(supernet, losses, tmp_path, objective):
    changes = {**_OBJECTIVES[objective], "validation_share": 0.1}
    settings = {"max_steps": 6, "save_strategy": "no", "logging_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    arguments, run = supernet(tmp_path / "run", changes, **settings)
    pretrain(arguments, run)
    assert len(losses(tmp_path / "run")) == 2
    metrics = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    assert 0 <= metrics["eval_masked_lm_accuracy"] <= 1
    if objective.startswith("electra"):
        pair = ElectraForPreTraining.from_pretrained(tmp_path / "run")
        assert is_supernet(pair.discriminator) and is_supernet(pair.generator) == (objective == "electra_both")
        own = inherited_model(pair, "2*(attention ffn)")
        assert own.config.generator.plan == "2*(attention ffn)" and not is_supernet(own)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supernet_kinds": None, "path_sampling": "balanced"}, "--path_sampling is for supernets"),
        ({"path_sampling": "other"}, "--path_sampling must be one of uniform, balanced, not 'other'"),
        ({"supernet_generator": True}, "--supernet_generator is for --objective electra"),
        ({"preset": None, "model_name_or_path": "x"}, "--plan does not go with --model_name_or_path"),
    ],
)
def test_bad_flags(supernet, tmp_path, changes, message):
    arguments, _ = supernet(tmp_path / "run", changes)
    with pytest.raises(InputError) as caught:
        check_arguments(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("flag, value", [("torch_compile", True), ("fsdp", "full_shard")])
def test_what_repeats_one_computation_is_refused(supernet, tmp_path, flag, value):
    arguments, run = supernet(tmp_path / "run", **{flag: value})
    with pytest.raises(InputError, match=f"--{flag} does not go with --supernet_kinds"):
        pretrain(arguments, run)


def test_arguments_of_other_runs_are_unchanged():
    assert PretrainArguments(preset="bert-small").supernet_kinds is None
    assert PretrainRunArguments(output_dir="x", use_cpu=True, report_to="none").ddp_find_unused_parameters is None
