"""Pre-training recipes: what they say, what of it flags replace, and where they can't work."""

from dataclasses import fields

import pytest

from bertkernels.cli.arguments import parse_arguments
from bertkernels.cli.main import main
from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.errors import InputError
from bertkernels.models.presets import electra_preset, electra_preset_names, preset_names
from bertkernels.models.variants import VARIANTS
from bertkernels.training.pretrain_arguments import PretrainArguments, check_arguments
from bertkernels.training.recipes.apply import given_flags
from bertkernels.training.recipes.distillation import RECIPES as DISTILLATION_RECIPES
from bertkernels.training.recipes.names import list_recipes
from bertkernels.training.recipes.pretraining import RECIPES
from bertkernels.training.recipes.pretraining_flags import PretrainRecipeArguments, recipe_for_run
from bertkernels.training.schedules import bert_rate
from bertkernels.training.training_arguments import PretrainRunArguments

CLASSES = (PretrainRecipeArguments, PretrainArguments, PretrainRunArguments)


def with_recipe(text):
    """The arguments of a command line with a recipe, and what is printed of it."""
    argv = [*text.split(), "--use_cpu", "--report_to", "none"]
    flags, printed = recipe_for_run(*parse_arguments("pretrain", "", argv, *CLASSES), given_flags(argv))
    _, arguments, run = parse_arguments("pretrain", "", [*flags, *argv], *CLASSES)
    return arguments, run, printed


def batch(run):
    return run.per_device_train_batch_size * run.gradient_accumulation_steps * run.world_size


# -- what is published -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "preset", "length", "batch_size", "rate", "steps", "fraction"),
    [
        ("convbert-small", "convbert-small", 128, 128, 3e-4, 1_000_000, 1 / 4),
        ("convbert-medium-small", "convbert-medium-small", 128, 128, 5e-4, 1_000_000, 1 / 4),
        ("convbert-base", "convbert-base", 128, 256, 2e-4, 1_000_000, 1 / 3),
        ("lvbert-small", "lvbert-small", 128, 128, 5e-4, 1_000_000, 1 / 4),
        ("lvbert-medium", "lvbert-medium", 128, 128, 5e-4, 1_000_000, 1 / 3),
        ("lvbert-base", "lvbert-base", 128, 256, 2e-4, 1_000_000, 1 / 3),
        ("electra-small", "electra-small", 128, 128, 5e-4, 1_000_000, 1 / 4),
        ("electra-small-owt", "electra-small", 128, 128, 5e-4, 1_000_000, 1 / 4),
        ("electra-base", "electra-base", 512, 256, 2e-4, 766_000, 1 / 3),
    ],
)
def test_electras_convberts_and_lvberts(name, preset, length, batch_size, rate, steps, fraction):
    arguments, run, _ = with_recipe(f"--recipe {name} --train_file a.txt")
    check_arguments(arguments)
    assert (arguments.objective, arguments.preset, arguments.max_seq_length) == ("electra", preset, length)
    assert batch(run) == batch_size and run.learning_rate == rate and run.max_steps == steps
    assert (arguments.masked_lm_weight, arguments.discriminator_weight) == (1.0, 50.0)
    assert (arguments.masking, arguments.mask_probability, arguments.vocab_size) == ("electra", 0.15, 30522)
    assert (run.optimizer, run.adam_epsilon, run.weight_decay, run.max_grad_norm) == ("bert_adam", 1e-6, 0.01, 1.0)
    assert run.bert_schedule and run.warmup_steps == 10_000 and run.lr_decay_power == 1.0
    assert arguments.generator_size == fraction
    pair = electra_preset(preset)
    assert round(pair.discriminator.hidden_size * fraction) == pair.generator.hidden_size


@pytest.mark.parametrize(
    ("name", "plan", "steps", "dupe_factor"),
    [
        ("bert-base", None, 900_000, 10),
        ("bert-small", None, 900_000, 10),
        ("bert-small-6", None, 10**6, 5),
    ],
)
def test_berts(name, plan, steps, dupe_factor):
    arguments, run, _ = with_recipe(f"--recipe {name} --train_file a.txt")
    check_arguments(arguments)
    assert (arguments.objective, arguments.packing, arguments.masking) == ("masked_lm_nsp", "bert_pairs", "bert")
    assert arguments.plan == plan and arguments.dupe_factor == dupe_factor and arguments.max_seq_length == 128
    assert batch(run) == 256 and run.learning_rate == 1e-4 and run.warmup_steps == 10_000
    assert run.max_steps == steps and (run.lr_decay_steps or run.max_steps) == 1_000_000


def test_every_preset_has_one_and_every_value_is_a_flag():
    pretrained = set(preset_names()) & set(RECIPES)
    # the last is the size that a log prints; nobody trained it
    variants = {f"bert-small-6-{name}" for name in VARIANTS}  # with the recipe of bert-small-6
    assert set(preset_names()) - pretrained - variants <= {*DISTILLATION_RECIPES, "efficientbert-plusplus-wide"}
    assert set(electra_preset_names()) == {
        name for name in pretrained if RECIPES[name].values["objective"] == "electra"
    }
    flags = {field.name for cls in CLASSES for field in fields(cls)}
    for name, recipe in RECIPES.items():
        assert recipe.name == name and set(recipe.values) <= flags, name
        assert set(recipe.notes) <= {*recipe.values, "batch"}, name
        assert list_recipes(RECIPES).count(f"{name} ") >= 1


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.second])
def test_second_phases_go_on_with_the_rate_where_the_first_left_it(name):
    first = name.removesuffix("-512")
    for command in (f"--recipe {name}", f"--recipe {first} --phase 512"):
        arguments, run, printed = with_recipe(f"{command} --model_name_or_path first --train_file a.txt")
        check_arguments(arguments)
        assert arguments.max_seq_length == 512 and run.max_steps == 100_000
        assert arguments.preset is None and "not used: the model is that of --model_name_or_path" in printed
        before = RECIPES[first].values
        total = before["max_steps"] + run.max_steps
        left = before["learning_rate"] * bert_rate(before["max_steps"], total, before["warmup_steps"])
        assert run.learning_rate == pytest.approx(left, rel=1e-9)
        lines = {line.split()[0]: line for line in printed.splitlines()[2:]}
        if first.startswith(("convbert", "lvbert")):
            for flag in ("learning_rate", "warmup_steps"):
                assert "not published" in lines[flag]
            # LV-BERT's README names 100,000 steps at 512 tokens, and nothing else
            assert ("not published" in lines["max_steps"]) == first.startswith("convbert")


# -- flags over recipes ------------------------------------------------------------------------------------------------


def test_given_flags_win_even_where_they_are_the_default():
    default = PretrainRunArguments(output_dir="x").learning_rate
    arguments, run, printed = with_recipe(
        f"--recipe convbert-small --train_file a.txt --learning_rate {default} --masking without_replacement "
        "--max-steps=100 --generator_hidden_size 0.5"
    )
    assert run.learning_rate == default and run.max_steps == 100
    assert arguments.masking == "without_replacement" and arguments.generator_size == 0.5
    lines = {line.split()[0]: line for line in printed.splitlines()[2:]}
    for flag in ("learning_rate", "masking", "max_steps"):
        assert f"(replaced by --{flag})" in lines[flag]
    assert "(replaced by --generator_hidden_size)" in lines["generator_size"]
    assert "replaced" not in lines["weight_decay"] and "0.01" in lines["weight_decay"]
    assert set(lines) == {"batch", *RECIPES["convbert-small"].values}, "all of it is printed"
    assert "released script packs as" in lines["packing"]


@pytest.mark.parametrize(
    ("flags", "size", "accumulated", "said"),
    [
        ("", 128, 1, "128 at once, 1 times, in 1 process"),
        ("--per_device_train_batch_size 32", 32, 4, "32 at once, 4 times"),
        ("--gradient_accumulation_steps 8", 16, 8, "16 at once, 8 times"),
        ("--per_device_train_batch_size 8 --gradient_accumulation_steps 2", 8, 2, "replaced by 16"),
    ],
)
def test_batches_are_the_published_ones_however_they_are_divided(flags, size, accumulated, said):
    _, run, printed = with_recipe(f"--recipe convbert-small --train_file a.txt {flags}")
    assert (run.per_device_train_batch_size, run.gradient_accumulation_steps) == (size, accumulated)
    assert said in printed.splitlines()[2]


def test_batches_are_divided_among_processes(monkeypatch):
    monkeypatch.setattr(PretrainRunArguments, "world_size", 4)
    _, run, printed = with_recipe("--recipe convbert-base --train_file a.txt --per_device_train_batch_size 16")
    assert run.gradient_accumulation_steps == 4 and "in 4 processes" in printed
    monkeypatch.setattr(PretrainRunArguments, "world_size", 3)
    with pytest.raises(InputError, match="256 examples of a step of --recipe convbert-base can't be divided among 3"):
        with_recipe("--recipe convbert-base --train_file a.txt")


def test_batches_by_tokens_take_the_place_of_the_recipes():
    _, run, printed = with_recipe("--recipe convbert-small --train_file a.txt --tokens_per_batch 4096")
    assert run.tokens_per_batch == 4096 and "replaced by --tokens_per_batch 4096" in printed


def test_what_has_no_room_beside_given_flags_is_not_used():
    arguments, _, printed = with_recipe("--recipe convbert-small --train_file a.txt --objective masked_lm")
    check_arguments(arguments)
    assert arguments.generator_size is None and "not used: --objective masked_lm has no generator" in printed
    for flags in ("--uniform_generator", "--untied_generator false"):
        arguments, _, _ = with_recipe(f"--recipe convbert-small --train_file a.txt {flags}")
        check_arguments(arguments)
    arguments, _, printed = with_recipe("--recipe convbert-small --train_file a.txt --vocab_file v.txt")
    assert arguments.vocab_size == 8192 and "not used: the vocabulary is that of --vocab_file" in printed
    arguments, _, _ = with_recipe("--recipe electra-small --train_file a.txt --preset convbert-base")
    assert arguments.preset == "convbert-base"
    _, run, _ = with_recipe("--recipe bert-base --train_file a.txt --num_train_epochs 2")
    assert run.max_steps == -1 and run.num_train_epochs == 2 and run.lr_decay_steps is None
    _, run, _ = with_recipe("--recipe bert-base --train_file a.txt --lr_scheduler_type constant")
    assert not run.bert_schedule


# -- where they can't work ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--recipe convbert-smal", "unknown --recipe 'convbert-smal', did you mean convbert-small?"),
        ("--recipe x", "unknown --recipe 'x', expected one of convbert-small, "),
        ("--phase 512", "--phase is of a --recipe"),
        ("--recipe electra-small --phase 512", "--recipe electra-small has no --phase of 512 tokens"),
        ("--recipe convbert-small --phase 512", "--recipe convbert-small-512 goes on from a first phase: give"),
        (
            "--recipe convbert-small --per_device_train_batch_size 48",
            "can't be divided among 1 process and --",
        ),
    ],
)
def test_refusals(flags, message):
    with pytest.raises(InputError) as caught:
        with_recipe(flags)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_prepared_folder_must_be_what_the_recipe_asks_for(tiny_text, tmp_path):
    folder = tmp_path / "prepared"
    prepare_text(
        PrepareArguments(
            train_file=[str(tiny_text)], vocab_size=200, max_seq_length=64, output_dir=str(folder), num_workers=1
        )
    )
    command = f"--recipe convbert-small --prepared_dir {folder}"
    with pytest.raises(InputError, match="convbert-small has --max_seq_length 128, .* give --max_seq_length 64"):
        with_recipe(command)
    arguments, _, printed = with_recipe(f"{command} --max_seq_length 64")
    check_arguments(arguments)
    assert "not used: the vocabulary is that of --prepared_dir" in printed
    with pytest.raises(InputError, match="--recipe bert-small has --packing bert_pairs, .* was prepared with electra"):
        with_recipe(f"--recipe bert-small --prepared_dir {folder} --max_seq_length 64")


# -- the command -------------------------------------------------------------------------------------------------------

TINY = (
    "--plan ffn --hidden_size 32 --embedding_size 16 --num_attention_heads 2 --intermediate_size 64 --vocab_size 200 "
    "--max_steps 2 --save_strategy no --report_to none --use_cpu --disable_tqdm true --per_device_train_batch_size 2 "
    "--gradient_accumulation_steps 1 --max_seq_length 32"
).split()


def test_two_phases_on_the_command_line(tiny_text, tmp_path, capsys):
    assert main(["pretrain", "--list_recipes"]) == 0
    assert capsys.readouterr().out == f"{list_recipes(RECIPES)}\n"

    text = ["--train_file", str(tiny_text)]
    first = ["pretrain", "--recipe", "convbert-small", *text, *TINY, "--output_dir", str(tmp_path / "one")]
    assert main(first) == 0
    out = capsys.readouterr().out
    assert out.startswith("Recipe convbert-small: ") and "  batch" in out and "replaced by 2" in out
    assert "2 of 2 examples" in out

    run = TINY[TINY.index("--max_steps") :]
    second = ["pretrain", "--recipe", "convbert-small", "--phase", "512", "--model_name_or_path", str(tmp_path / "one")]
    assert main([*second, *text, *run, "--output_dir", str(tmp_path / "two")]) == 0
    assert "Recipe convbert-small-512" in capsys.readouterr().out

    short = [*first[:-1], str(tmp_path / "three"), "--max_position_embeddings", "16"]
    assert main(short) == 2
    assert "--max_seq_length 32 is above the model's max_position_embeddings (16)" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
