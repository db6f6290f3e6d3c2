import json

import pytest
import torch

from bertkernels.cli.main import main
from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification
from bertkernels.models.presets import preset_names
from bertkernels.training.recipes.distillation import RECIPES


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def flags(tmp_path):
    """A teacher of four blocks for each of two tasks, rows of these, and a student of two blocks."""
    words = {word: number for number, word in enumerate([*SPECIAL_TOKENS, "a", "good", "bad", "row"])}
    sizes = {"plan": "4*(attention ffn)", "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    for task, labels in (("CoLA", ("0", "1")), ("RTE", ("entailment", "not_entailment"))):
        config = EncoderConfig(vocab_size=len(words), id2label=dict(enumerate(labels)), **sizes)
        torch.manual_seed(0)
        EncoderForSequenceClassification(config).save_pretrained(tmp_path / "teachers" / task)
        tokenizer_from_vocabulary(words).save_pretrained(tmp_path / "teachers" / task)
    cola = "source\t1\t\ta good row\nsource\t0\t*\ta bad row\n" * 4
    rte = "index\tsentence1\tsentence2\tlabel\n" + "0\ta row\ta good row\tentailment\n1\trow\tbad\tnot_entailment\n" * 4
    for task, content in (("CoLA", cola), ("RTE", rte)):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for split in ("train", "dev"):
            (tmp_path / "glue" / task / f"{split}.tsv").write_text(content)
    options = {
        "teacher_model_name_or_path": tmp_path / "teachers",
        "plan": "2*(attention ffn)",
        "hidden_size": 16,
        "intermediate_size": 32,
        "glue_dir": tmp_path / "glue",
        "output_dir": tmp_path / "run",
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": "true",
        "disable_tqdm": "true",
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def test_one_task(flags, tmp_path, capsys):
    assert main(["distill", *flags, "--task_name", "CoLA"]) == 0
    output = capsys.readouterr().out
    assert "eval_mcc: " in output and f"Distilled model: {tmp_path / 'run'}" in output
    test = tmp_path / "glue" / "CoLA" / "test.tsv"
    test.write_text("index\tsentence\n0\ta good row\n")
    predicted = ["--task_name", "CoLA", "--output_dir", str(tmp_path / "said"), "--use_cpu", "--disable_tqdm"]
    source = ["--model_name_or_path", str(tmp_path / "run"), "--glue_dir", str(tmp_path / "glue")]
    assert main(["predict", *source, *predicted]) == 0
    assert (tmp_path / "said" / "CoLA.tsv").is_file()


def test_tasks_and_phases_of_a_recipe(flags, tmp_path, capsys):
    place = flags.index("--save_strategy")
    command = ["distill", *flags[:place], *flags[place + 2 :], "--task_name", "cola,RTE", "--recipe", "tinybert-4"]
    command += ["--eval_steps", "1", "--save_steps", "1", "--logging_steps", "1"]
    assert main(command) == 0
    output = capsys.readouterr().out
    folder = tmp_path / "run"
    for task in ("CoLA", "RTE"):
        for phase in ("intermediate", "prediction"):
            assert f"Recipe tinybert-4 on {task}, {phase}: TinyBERT-4" in output
        assert json.loads((folder / task / "all_results.json").read_text())["best_model"] == "prediction"
    found = " ".join(output.split())
    assert "plan 4*(attention ffn) (replaced by --plan)" in found and "learning_rate 3e-05" in found
    for phase, losses in (("intermediate", {"hidden_loss"}), ("prediction", {"logits_loss"})):
        log = map(json.loads, (folder / "RTE" / phase / "train_log.jsonl").read_text().splitlines())
        found = set().union(*log)
        assert found & {"hidden_loss", "logits_loss"} == losses
    assert len((folder / "results.tsv").read_text().splitlines()) == 3
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert main([*command, "--resume_from_checkpoint"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    predicted = ["--task_name", "RTE", "--output_dir", str(tmp_path / "said"), "--use_cpu", "--disable_tqdm"]
    (tmp_path / "glue" / "RTE" / "test.tsv").write_text("index\tsentence1\tsentence2\n0\ta row\ta row\n")
    source = ["--model_name_or_path", str(folder), "--glue_dir", str(tmp_path / "glue")]
    assert main(["predict", *source, *predicted]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recipe", "tinybert-5"], "unknown --recipe 'tinybert-5', did you mean"),
        (["--phase", "prediction"], "--phase is of a --recipe"),
        (["--recipe", "tinybert-4", "--phase", "last"], "has no --phase last, only intermediate, prediction"),
        (["--recipe", "efficientbert-tiny", "--phase", "prediction"], "has no --phase prediction, it is one here"),
        (["--block_map", "1", "7"], "--block_map names block 7, the teacher has 4"),
        (["--logits_weight", "0", "--best_on_dev"], "--best_on_dev: no loss trains the head"),
        (["--teacher_model_name_or_path", "no/where"], "no/where is no folder, and the hub has no such model"),
    ],
)
def test_bad_input_is_one_sentence(flags, more, message, tmp_path, capsys):
    assert main(["distill", *flags, "--task_name", "CoLA", *more]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]  # after progress bars
    assert message in error and error.startswith("bertkernels distill: ")
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed_and_name_students_that_there_are(capsys):
    assert main(["distill", "--list_recipes"]) == 0
    output = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert name in output
        config = {"vocab_size": 100} | {name: value for name, value in recipe.student.items() if name != "preset"}
        assert EncoderConfig(**config).num_hidden_layers > 0
        named = recipe.student.get("preset", "")
        assert named in ("", *preset_names())
