"""The whole search from one file, cut short and taken up again."""

import json
import re

import pytest
import yaml

from bertkernels.cli.main import main
from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of, genotype_texts, parse_genotype
from bertkernels.search import ffn_pipeline, ffn_run
from bertkernels.search.worker import work


@pytest.fixture
def prepared(ffn_teacher, tmp_path):
    (tmp_path / "text.txt").write_text("a fast kernel\n\nthe slow row\n\n" * 40)
    prepare_text(
        PrepareArguments(
            train_file=[str(tmp_path / "text.txt")],
            tokenizer_name=ffn_teacher,
            max_seq_length=16,
            output_dir=str(tmp_path / "prepared"),
            num_workers=1,
        )
    )
    return str(tmp_path / "prepared")


@pytest.fixture
def content(ffn_teacher, sentences, prepared, tmp_path):
    return {
        "output_dir": str(tmp_path / "out"),
        "teacher_model_name_or_path": ffn_teacher,
        "num_seeds": 2,
        "run": {
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
            "save_strategy": "no",
            "per_device_train_batch_size": 8,
            "max_steps": 2,
        },
        "task": {**sentences, "max_seq_length": 16},
        "text": {"prepared_dir": prepared},
        "budget": {"min_parameters": 4000, "max_parameters": 6500, "counted_projection": 16},
        "search": {"sampler": "random", "evaluations": 3, "held_out_samples": 8},
        "supernet": {"plan": "2*(attention expression_ffn[stack=4])", "intermediate_size": 16},
        "stage1": {},
        "stage2": {},
        "shared_text": {},
        "shared_task": {},
        "stage3": {"evaluations": 4},
        "student_text": {},
        "student": {"max_steps": 3},
    }


@pytest.fixture
def written(tmp_path):
    def write(content):
        (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path / "pipeline.yaml")

    return write


def test_from_a_file_to_the_report(content, written, tmp_path, monkeypatch, capsys):
    """In this process, and cut short once: finished steps are not done again."""

    def in_this_process(search, folder, workers, quiet):
        folder.mkdir(parents=True, exist_ok=True)
        work(search.study, search.claims, search.fitness())

    runs, distil = [], ffn_pipeline.distill

    def counted(arguments, run):
        runs.append(run.output_dir.removeprefix(content["output_dir"] + "/"))
        if len(runs) == 3:
            raise KeyboardInterrupt
        return distil(arguments, run)

    monkeypatch.setattr(ffn_run, "run_search", in_this_process)
    monkeypatch.setattr(ffn_pipeline, "distill", counted)
    file = written(content)
    assert main(["search", "pipeline", file]) == 130
    assert main(["search", "pipeline", file]) == 0
    seeds = ["seed-42", "seed-43"]
    students = [f"students/{arm}/{run}" for arm in ("found", "plain") for run in ("text", *seeds)]
    students += [f"students/no_distillation/{run}" for run in seeds]
    assert runs == ["supernet", "shared_text", "shared_task", "shared_task", *students]

    folder = tmp_path / "out"
    report = json.loads((folder / "report.json").read_text())
    found = parse_genotype(report["genotype"])
    assert json.loads((folder / "stage3/genotype.json").read_text()) == report["genotype"]
    sizes = {name: student["parameters"] for name, student in report["students"].items()}
    assert len(set(sizes.values())) == 1 and len(sizes) == 3, "all of one size"
    student = load_ours(folder / "students/found/seed-42")
    assert genotype_texts(genotype_of(student.config)) == genotype_texts(found)
    second = json.loads((folder / "stage2/genotype.json").read_text())
    whole = [re.sub(r"linear\d_\d", "linear4_1", text) for text in second]
    assert genotype_texts(genotype_of(load_ours(folder / "shared_task").config)) == whole
    text = (folder / "report.md").read_text()
    assert all(words in text for words in ("found, distilled", "plain feed-forward", "on labels alone", "seed 43"))
    assert "Report: " in capsys.readouterr().out

    runs.clear()
    runs += ["", "", ""]
    assert main(["search", "pipeline", file]) == 0 and runs == ["", "", ""], "nothing is left to do"
    content["stage2"] = {"evaluations": 5}
    assert main(["search", "pipeline", written(content)]) == 2
    assert "stage2 is finished, with --evaluations 3 and not 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stage4": {}}, "unknown section 'stage4'"),
        ({"student": None, "num_seeds": 0}, "num_seeds must be a whole number from 1, not 0"),
        ({"stage1": {"evaluation": 3}}, "unknown option '--evaluation'"),
        ({"shared_task": {"max_step": 3}}, "unknown option '--max_step'"),
        ({"search": 3}, "search must hold flags, one value each, not 3"),
    ],
)
def test_bad_files(content, written, tmp_path, capsys, changes, sentence):
    assert main(["search", "pipeline", written(content | changes)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_section(content, written, capsys):
    del content["stage2"]
    assert main(["search", "pipeline", written(content)]) == 2
    assert "stage2 is missing" in capsys.readouterr().err
