import pytest

from bertkernels.cli.arguments import parse_with_defaults
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.recipes.apply import describe, fit_batch
from bertkernels.training.recipes.finetuning import RECIPES, find_recipe
from bertkernels.training.series_arguments import SeriesArguments, chosen_seeds
from bertkernels.training.training_arguments import FinetuneRunArguments


def _parse(*argv):
    dataclasses = (SeriesArguments, FinetuneArguments, FinetuneRunArguments)
    argv = ["--use_cpu", "true", *map(str, argv)]

    def defaults(given):
        return find_recipe(given).values

    (_, arguments, run), given = parse_with_defaults("finetune", "", argv, defaults, *dataclasses)
    recipe = find_recipe(given)
    fit_batch(recipe, run, given)
    return arguments, run, describe(recipe, run, given, arguments)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", ["CoLA", "sst-2", "MRPC", "QQP", "STS-B", "MNLI", "QNLI", "RTE", "WNLI"])
def test_every_value_is_a_flag_s(name, task):
    """Each recipe fills the arguments of each task, as the table of its publication says."""
    arguments, run, text = _parse("--recipe", name, "--task_name", task)
    recipe = find_recipe({"recipe": name, "task_name": task})
    for flag, value in recipe.values.items():
        holder = arguments if hasattr(arguments, flag) else run
        assert getattr(holder, flag) == value
        assert flag in text
    assert run.per_device_train_batch_size * run.gradient_accumulation_steps == recipe.batch
    assert recipe.source in text


def test_electra_by_task():
    for task, epochs, doubled, scale in (
        ("CoLA", 3, False, 1),
        ("MRPC", 3, True, 1),
        ("STS-B", 10, True, 5),
        ("RTE", 10, False, 1),
    ):
        arguments, run, _ = _parse("--recipe", "convbert-base", "--task_name", task)
        assert (run.num_train_epochs, arguments.double_unordered, arguments.label_scale) == (epochs, doubled, scale)
        assert (run.learning_rate, run.layerwise_lr_decay, run.loss_reduction) == (1e-4, 0.8, "sum")
        assert (run.optimizer, run.bert_schedule, run.warmup_steps) == ("bert_adam", True, 0.1)
        assert arguments.max_seq_length == 128
    arguments, run, _ = _parse("--recipe", "convbert-small", "--task_name", "squad_v2")
    assert (arguments.max_seq_length, run.num_train_epochs, run.learning_rate) == (512, 2, 3e-4)


def test_flags_win_and_say_so():
    arguments, run, text = _parse(
        "--recipe", "electra-small", "--task_name", "RTE", "--learning_rate", 1e-3, "--max_steps", 7, "--optim", "sgd"
    )
    assert (run.learning_rate, run.max_steps, run.optimizer) == (1e-3, 7, "torch")
    assert "given, in place of 0.0003" in text
    assert "num_train_epochs    left out: --max_steps is given" in text
    assert "optimizer           left out: --optim is given" in text


def test_batches_of_fewer_rows_are_accumulated():
    _, run, _ = _parse("--recipe", "theseus-predecessor", "--task_name", "QNLI", "--per_device_train_batch_size", 8)
    assert run.gradient_accumulation_steps == 4


def test_unknown_recipes_and_tasks_without_values():
    with pytest.raises(InputError, match="unknown --recipe 'convbert-smal', did you mean 'convbert-small'?"):
        find_recipe({"recipe": "convbert-smal"})
    with pytest.raises(InputError, match="--recipe investigate-bert-base is for --task_name CoLA, SST-2"):
        find_recipe({"recipe": "investigate-bert-base", "train_file": "mine.tsv"})
    assert find_recipe({"task_name": "RTE"}) is None


def test_seeds_of_a_series():
    assert chosen_seeds(SeriesArguments(), 42) is None
    assert chosen_seeds(SeriesArguments(num_seeds=3), 42) == [42, 43, 44]
    assert chosen_seeds(SeriesArguments(seeds=[5, 2]), 42) == [5, 2]
    for bad, message in (
        (SeriesArguments(seeds=[1], num_seeds=1), "--seeds or --num_seeds, not both"),
        (SeriesArguments(seeds=[1, 1]), "different numbers"),
        (SeriesArguments(num_seeds=0), "--num_seeds must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            chosen_seeds(bad, 0)
