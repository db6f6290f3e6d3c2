import pytest

from bertkernels.cli.arguments import parse_arguments
from bertkernels.errors import InputError
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.recipes.apply import given_flags
from bertkernels.training.recipes.finetuning import RECIPES
from bertkernels.training.recipes.finetuning_flags import recipe_for_run
from bertkernels.training.recipes.names import list_recipes
from bertkernels.training.series_arguments import SeriesArguments, chosen_seeds
from bertkernels.training.training_arguments import FinetuneRunArguments

_TASKS = ("CoLA", "SST-2", "MRPC", "QQP", "STS-B", "MNLI", "QNLI", "RTE", "WNLI")


def _parse(*argv):
    """Arguments of a command line with a recipe, and the recipe in words."""
    argv = ["--use_cpu", "true", *map(str, argv)]
    dataclasses = (SeriesArguments, FinetuneArguments, FinetuneRunArguments)
    series, arguments, run = parse_arguments("finetune", "", argv, *dataclasses)
    flags, text = recipe_for_run(series.recipe, arguments.task_name, run, given_flags(argv))
    return *parse_arguments("finetune", "", [*flags, *argv], *dataclasses)[1:], text


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", _TASKS)
def test_every_value_is_a_flag_s(name, task):
    arguments, run, text = _parse("--recipe", name, "--task_name", task)
    recipe = RECIPES[name]
    values = {**recipe.values, **recipe.tasks.get(task, {})}
    assert run.per_device_train_batch_size == values.pop("batch", recipe.batch)
    assert "learning_rate" in values and {"num_train_epochs", "max_steps"} & values.keys()
    for flag, value in values.items():
        assert getattr(arguments if hasattr(arguments, flag) else run, flag) == value
        assert f"  {flag} " in text
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
    said = [" ".join(line.split()) for line in text.splitlines()]
    assert "learning_rate 0.0003 (replaced by --learning_rate)" in said
    assert "num_train_epochs 10.0 (replaced by --max_steps)" in said
    assert "optimizer bert_adam (replaced by --optim)" in said


def test_a_step_has_the_recipe_s_examples():
    more = ("--recipe", "theseus-predecessor", "--task_name", "QNLI")
    arguments, run, _ = _parse(*more, "--gradient_accumulation_steps", 4)
    assert (run.per_device_train_batch_size, arguments.max_seq_length) == (8, 256)
    assert _parse(*more, "--per_device_train_batch_size", 5)[1].per_device_train_batch_size == 5
    with pytest.raises(InputError, match="the 32 examples of a step of --recipe theseus-predecessor can't be divided"):
        _parse(*more, "--gradient_accumulation_steps", 3)


def test_names_in_any_writing_and_tasks_of_one_s_own():
    assert _parse("--recipe", "electra-base", "--task_name", "sts_b")[0].label_scale == 5
    arguments, run, _ = _parse("--recipe", "electra-base", "--train_file", "mine.tsv")
    assert (run.num_train_epochs, arguments.double_unordered) == (3, False)


def test_unknown_recipes_and_tasks_without_values():
    with pytest.raises(InputError, match="unknown --recipe 'convbert-smal', did you mean convbert-small?"):
        _parse("--recipe", "convbert-smal")
    with pytest.raises(InputError, match="--recipe investigate-bert-base is for --task_name CoLA, SST-2"):
        _parse("--recipe", "investigate-bert-base", "--train_file", "mine.tsv")
    assert len(list_recipes(RECIPES).splitlines()) == len(RECIPES)


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
