"""From fine-tuned folders to files of predictions."""

import json
import shutil

import pytest
from transformers import AutoModelForSequenceClassification

from bertkernels.errors import InputError
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.predict import predict
from bertkernels.training.predict_arguments import PredictArguments
from bertkernels.training.training_arguments import FinetuneRunArguments


@pytest.fixture
def arguments(tmp_path):
    def make(model, **changes):
        settings = {"output_dir": str(tmp_path / "out"), "use_cpu": True, "disable_tqdm": True}
        return PredictArguments(model_name_or_path=model, **settings | changes)

    return make


@pytest.fixture
def glue(tmp_path):
    """A folder with the test files of some tasks."""
    rows = {
        "MNLI/test_matched.tsv": ["sentence1\tsentence2", "a good row\ta row", "bad\tgood", "a\ta"],
        "MNLI/test_mismatched.tsv": ["sentence1\tsentence2", "a row\ta bad row"],
        "MNLI/diagnostic.tsv": ["sentence1\tsentence2", "row\tbad row", "good\trow"],
        "STS-B/test.tsv": ["sentence1\tsentence2", "a good row\ta row", "bad\tgood"],
        "CoLA/test.tsv": ["sentence", "a good row", "row a"],
    }
    for file, (header, *lines) in rows.items():
        path = tmp_path / "glue" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([f"index\t{header}", *(f"{i}\t{line}" for i, line in enumerate(lines))]) + "\n")
    return str(tmp_path / "glue")


def _read(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_fine_tuned_labels_come_out_as_words(tmp_path, arguments, tiny_classifier):
    """The whole way: fine-tune on a file, predict another, whose labels are not looked at."""
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\n" + "a good row\tup\na bad row\tdown\ngood row\tup\nbad row\tdown\n" * 20)
    run = FinetuneRunArguments(
        output_dir=str(tmp_path / "fine"),
        max_steps=60,
        learning_rate=1e-2,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    result = finetune(FinetuneArguments(model_name_or_path=tiny_classifier(), train_file=str(train)), run)
    assert result.main_score is None
    (tmp_path / "new.csv").write_text("text,id,label\na bad row,x7,?\ngood row,x9,?\n")
    files = predict(arguments(str(result.output_dir), test_file=str(tmp_path / "new.csv"), probabilities=True))
    assert [path.name for path in files] == ["test_predictions.tsv", "test_probabilities.tsv"]
    rows, shares = _read(files[0]), _read(files[1])
    assert [row[:2] for row in rows] == [["index", "prediction"], ["x7", "down"], ["x9", "up"]]
    assert shares[0] == ["index", "down", "up"]
    for row, (_, down, up) in zip(rows[1:], shares[1:], strict=True):
        assert float(row[2]) == max(float(down), float(up)) > 0.8
        assert float(down) + float(up) == pytest.approx(1, abs=2e-6)


def test_glue_files_have_the_leaderboard_s_names_and_words(glue, arguments, tiny_classifier):
    labels = dict(enumerate(["neutral", "contradiction", "entailment"]))  # the model's own order
    folder = tiny_classifier(id2label=labels, label2id={name: number for number, name in labels.items()})
    chosen = AutoModelForSequenceClassification.from_pretrained(folder)
    chosen.classifier.weight.data.zero_()
    chosen.classifier.bias.data.copy_(chosen.classifier.bias.new_tensor([0.0, 1.0, 0.0]))
    chosen.save_pretrained(folder)
    files = predict(arguments(folder, glue_dir=glue, task_name="mnli"))
    files += predict(arguments(folder, glue_dir=glue, task_name="AX"))
    assert [path.name for path in files] == ["MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"]
    assert [len(_read(path)) for path in files] == [4, 2, 3]
    for path in files:
        header, *rows = _read(path)
        assert header == ["index", "prediction"]
        assert rows == [[str(number), "contradiction"] for number in range(len(rows))]


def test_labels_without_names_are_in_the_usual_order(glue, arguments, tiny_classifier):
    (path,) = predict(arguments(tiny_classifier(), glue_dir=glue, task_name="CoLA"))
    assert {answer for _, answer in _read(path)[1:]} <= {"0", "1"}


def test_scores_are_scaled_back_and_cut(glue, arguments, tiny_classifier):
    folder = tiny_classifier(num_labels=1, problem_type="regression", label_scale=5.0)
    for bias, written in ((0.7, "3.500"), (1.4, "5.000"), (-1.0, "0.000")):
        chosen = AutoModelForSequenceClassification.from_pretrained(folder)
        chosen.classifier.weight.data.zero_()
        chosen.classifier.bias.data.fill_(bias)
        chosen.save_pretrained(folder)
        (path,) = predict(arguments(folder, glue_dir=glue, task_name="STS-B", overwrite_output_dir=True))
        assert _read(path)[1:] == [["0", written], ["1", written]]
    with pytest.raises(InputError, match="there are no probabilities for STS-B"):
        predict(arguments(folder, glue_dir=glue, task_name="STS-B", overwrite_output_dir=True, probabilities=True))


def test_folders_of_several_tasks_and_seeds(glue, arguments, tiny_classifier, tmp_path):
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    folder = tiny_classifier(id2label=labels, label2id={name: number for number, name in labels.items()})
    shutil.copytree(folder, tmp_path / "runs" / "MNLI" / "seed-2")
    (tmp_path / "runs" / "MNLI" / "all_results.json").write_text(json.dumps({"best_model": "seed-2"}))
    for task in ("MNLI", "AX"):
        assert predict(arguments(str(tmp_path / "runs"), glue_dir=glue, task_name=task))
    with pytest.raises(InputError, match="runs holds no fine-tuned model of CoLA, only of MNLI"):
        predict(arguments(str(tmp_path / "runs"), glue_dir=glue, task_name="CoLA"))


def test_first_rows_only(glue, arguments, tiny_classifier):
    (path,) = predict(arguments(tiny_classifier(), glue_dir=glue, task_name="CoLA", max_predict_samples=1))
    assert len(_read(path)) == 2


def test_bad_input_is_one_sentence(glue, arguments, tiny_classifier, tmp_path):
    folder = tiny_classifier()
    file = tmp_path / "rows.csv"
    file.write_text("text\na row\n")
    cases = [
        ({"model_name_or_path": None}, "--model_name_or_path is missing"),
        ({"output_dir": None}, "--output_dir is missing"),
        ({}, "give one of --test_file, --glue_dir and --dataset_name"),
        ({"glue_dir": glue}, "--glue_dir needs --task_name"),
        ({"test_file": str(file), "task_name": "RTE"}, "--task_name RTE goes with --glue_dir"),
        ({"glue_dir": glue, "task_name": "AX"}, "the model predicts LABEL_0, LABEL_1, AX asks for contradiction"),
        ({"glue_dir": glue, "task_name": "STS-B"}, "STS-B asks for regression"),
        ({"test_file": str(file), "max_seq_length": 1000}, "above the model's max_position_embeddings"),
        ({"test_file": str(file), "max_predict_samples": 0}, "--max_predict_samples"),
        ({"task_name": "squad"}, "--task_name squad needs --test_file"),
        ({"model_name_or_path": str(tmp_path), "test_file": str(file)}, "holds no fine-tuned model"),
    ]
    for changes, message in cases:
        with pytest.raises(InputError, match=message):
            predict(arguments(**{"model": folder, **_renamed(changes)}))
    assert not (tmp_path / "out").exists()


def _renamed(changes):
    return {{"model_name_or_path": "model"}.get(name, name): value for name, value in changes.items()}


def test_a_model_without_its_head_predicts_nothing(arguments, tiny_classifier, tmp_path):
    folder = tiny_classifier()
    AutoModelForSequenceClassification.from_pretrained(folder).bert.save_pretrained(folder)
    (tmp_path / "rows.csv").write_text("text\na row\n")
    with pytest.raises(InputError, match="is not fine-tuned for this: it lacks 2 weights"):
        predict(arguments(folder, test_file=str(tmp_path / "rows.csv")))


def test_predictions_are_not_replaced_unasked(glue, arguments, tiny_classifier):
    asked = arguments(tiny_classifier(), glue_dir=glue, task_name="CoLA")
    predict(asked)
    with pytest.raises(InputError, match="CoLA.tsv is there already"):
        predict(asked)
    asked.overwrite_output_dir = True
    predict(asked)
