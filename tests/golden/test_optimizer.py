"""Updates, schedules and rates by depth equal the recordings of the original program."""

import json
import re

import numpy as np
import pytest
import torch

from bertkernels.training.bert_adam import BertAdam
from bertkernels.training.parameter_groups import rate_multipliers
from bertkernels.training.schedules import bert_rate

_NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")


def _name(variable: str) -> str:
    """A recorded variable's name in the form of a module's parameters."""
    return re.sub(r"/layer_(\d+)/", r"/layer/\1/", f"/{variable}").strip("/").replace("/", ".")


@pytest.fixture(scope="module")
def updates(golden_dir):
    """(recording, its settings) of each run of the optimizer with clipping and schedule."""
    paths = [path for path in sorted(golden_dir.rglob("adam_*steps.npz")) if "bare" not in path.name]
    if not paths:
        pytest.skip(f"no recorded updates under {golden_dir}")
    return [(np.load(path), json.loads((path.parent / "adam_info.json").read_text())[path.stem]) for path in paths]


def _variables(recorded) -> list[str]:
    return [key.removeprefix("param0/") for key in recorded if key.startswith("param0/")]


def _rate(recorded, settings, step: int, variable: str) -> float:
    if f"lr_used_step{step}" in recorded:
        return float(recorded[f"lr_used_step{step}"])
    by_key = {
        key.split("/", 1)[1].replace("|", "/"): float(recorded[key])
        for key in recorded
        if key.startswith(f"lr_used_step{step}/")
    }
    return next(rate for key, rate in by_key.items() if key in f"/{variable}")


def _optimizer(parameters, settings):
    groups = [
        {
            "params": [parameter],
            "weight_decay": 0.0 if _NOT_DECAYED.search(name) else settings["weight_decay_rate"],
            "variable": name,
        }
        for name, parameter in parameters.items()
    ]
    adam = settings["adam"]
    return BertAdam(groups, betas=(adam["beta_1"], adam["beta_2"]), eps=adam["epsilon"])


def test_updates_with_clipping(updates):
    for recorded, settings in updates:
        names = _variables(recorded)
        parameters = {name: torch.nn.Parameter(torch.from_numpy(recorded[f"param0/{name}"].copy())) for name in names}
        optimizer = _optimizer(parameters, settings)
        for step in range(1, settings["steps"] + 1):
            for group in optimizer.param_groups:
                group["lr"] = _rate(recorded, settings, step, group["variable"])
            for name, parameter in parameters.items():
                parameter.grad = torch.from_numpy(recorded[f"grad_raw{step}/{name}"].copy())
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            np.testing.assert_allclose(norm, recorded[f"grad_global_norm{step}"], rtol=1e-5)
            optimizer.step()
            for name, parameter in parameters.items():
                np.testing.assert_allclose(parameter.detach(), recorded[f"param{step}/{name}"], rtol=1e-5, atol=1e-6)
                state = optimizer.state[parameter]
                np.testing.assert_allclose(state["exp_avg"], recorded[f"adam_m{step}/{name}"], rtol=1e-5, atol=1e-7)
                np.testing.assert_allclose(state["exp_avg_sq"], recorded[f"adam_v{step}/{name}"], rtol=1e-5, atol=1e-9)


def test_rates_used_are_the_schedules(updates):
    for recorded, settings in updates:
        steps = settings["num_train_steps"]
        warmup = max(steps * settings["warmup_proportion"], settings["warmup_steps"])
        decay = settings["layerwise_lr_decay_power"]
        names = _variables(recorded)
        multipliers = dict.fromkeys(names, 1.0)
        if decay > 0:
            by_name = rate_multipliers([_name(name) for name in names], decay)
            multipliers = {name: by_name[_name(name)] for name in names}
        for step in range(1, settings["steps"] + 1):
            # The recorded program read its step counter after it had been raised.
            rate = settings["learning_rate"] * bert_rate(step, steps, warmup, settings["lr_decay_power"])
            for name in names:
                used = _rate(recorded, settings, step, name)
                np.testing.assert_allclose(used, rate * multipliers[name], rtol=1e-5)


def test_bare_updates(golden_dir):
    paths = sorted(golden_dir.rglob("adam_bare*.npz"))
    if not paths:
        pytest.skip(f"no recorded updates under {golden_dir}")
    for path in paths:
        recorded = np.load(path)
        parameters = {
            name: torch.nn.Parameter(torch.from_numpy(recorded[f"param0/{name}"].copy()))
            for name in _variables(recorded)
        }
        settings = {"weight_decay_rate": 0.1, "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6}}
        optimizer = _optimizer(parameters, settings)
        steps = sum(key.startswith("grad") and key.endswith(next(iter(parameters))) for key in recorded)
        assert steps
        for step in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            for name, parameter in parameters.items():
                parameter.grad = torch.from_numpy(recorded[f"grad{step}/{name}"].copy())
            optimizer.step()
            for name, parameter in parameters.items():
                np.testing.assert_allclose(parameter.detach(), recorded[f"param{step}/{name}"], rtol=1e-5, atol=1e-7)


def test_schedules(golden_dir):
    paths = sorted(golden_dir.rglob("lr_schedules*.json"))
    if not paths:
        pytest.skip(f"no recorded schedules under {golden_dir}")
    for recorded in (schedule for path in paths for schedule in json.loads(path.read_text())):
        steps = recorded["num_train_steps"]
        warmup = max(steps * recorded["warmup_proportion"], recorded["warmup_steps"])
        for step, expected in zip(recorded["global_steps"], recorded["lrs"], strict=True):
            found = recorded["learning_rate"] * bert_rate(step, steps, warmup, recorded["lr_decay_power"])
            # The recording is in fp32, where 1 - step / steps near the end has few digits left.
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=recorded["learning_rate"] * 2e-7)


def test_rates_by_depth(golden_dir):
    paths = sorted(golden_dir.rglob("layerwise_lr*.json"))
    if not paths:
        pytest.skip(f"no recorded rates under {golden_dir}")
    for path in paths:
        recordings = json.loads(path.read_text())
        # The original refuses a variable that it cannot place; here all that is outside of the encoder is a head.
        recordings.pop("unknown_variable", None)
        assert recordings
        for recorded in recordings.values():
            variables = recorded["per_variable"]
            found = rate_multipliers([_name(name) for name in variables], recorded["decay"])
            for name, expected in variables.items():
                assert found[_name(name)] == pytest.approx(expected)
