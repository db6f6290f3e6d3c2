"""Supernets of stacked layers: a student of random shapes each step, and rows held out to choose by."""

import pytest
import torch
from transformers import TrainerCallback

from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of, genotype_texts, published_size
from bertkernels.models.inheritance import student_config
from bertkernels.training.distill import distill

SUPERNET = {"plan": "2*(attention expression_ffn[stack=4])", "hidden_size": 16, "intermediate_size": 16}


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 3


@pytest.fixture
def supernet_run(arguments, run_arguments):
    """Distils a supernet with students within a budget; returns its folder."""

    def train(name="out", callbacks=(), min_parameters=4000, max_parameters=5500, run=None, **changes):
        given = arguments(
            **SUPERNET
            | {"sample_shapes": True, "min_parameters": min_parameters, "max_parameters": max_parameters}
            | {"counted_projection": 0}
            | changes
        )
        return distill(given, run_arguments(name, **{"max_steps": 6} | (run or {})), callbacks)

    return train


def test_a_step_trains_one_student_within_the_budget(supernet_run, monkeypatch):
    from bertkernels.training import genotype_steps

    chosen, choose = [], genotype_steps.choose_genotype

    def record(model, genotype):
        chosen.append(genotype)
        choose(model, genotype)

    monkeypatch.setattr(genotype_steps, "choose_genotype", record)
    model = load_ours(supernet_run().output_dir)
    steps, between = chosen[::2], chosen[1::2]
    assert len(steps) == 6 and len(set(steps)) > 1
    assert all(4000 <= published_size(student_config(model.config, genes), 0) <= 5500 for genes in steps)
    assert all(genes == genotype_of(model.config) for genes in between), "evaluations are the whole supernet's"
    assert genotype_texts(genotype_of(model.config)) == ["linear4_1(gelu(linear4_1(x,wb1)),wb2)"] * 2


def test_a_resumed_run_trains_the_same_students(supernet_run):
    whole = supernet_run("whole", run={"save_strategy": "steps", "save_steps": 3})
    broken = {"save_strategy": "steps", "save_steps": 3}
    supernet_run("broken", callbacks=[Stop()], run=broken)
    resumed = supernet_run("broken", run=broken | {"resume_from_checkpoint": "last"})
    ours, theirs = (load_ours(result.output_dir).state_dict() for result in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_budgets_and_students_that_are_no_supernets(supernet_run):
    with pytest.raises(InputError, match="--sample_shapes: no student has 10 to 20 parameters: the nearest has"):
        supernet_run(min_parameters=10, max_parameters=20)
    with pytest.raises(InputError, match="--sample_shapes: the plan .* has no expression_ffn"):
        supernet_run(plan="2*(attention ffn)")


def test_held_out_rows(arguments, run_arguments, capsys):
    """The last training rows are evaluated in place of the others, and not trained on."""
    distill(arguments(held_out_samples=0.25), run_arguments("share"))
    assert "train 36, held_out 12" in capsys.readouterr().out
    result = distill(arguments(held_out_samples=8), run_arguments())
    assert result.metrics["train_samples_per_second"] > 0 and result.main_score is not None
    with pytest.raises(InputError, match="--held_out_samples 48 leaves nothing to train on: there are 48"):
        distill(arguments(held_out_samples=48), run_arguments("other"))
    with pytest.raises(InputError, match="--held_out_samples must be a number of rows from 1, or a share below 1"):
        distill(arguments(held_out_samples=0), run_arguments("other"))
