"""The search over feed-forward layers: fitness, stages, report, and bad input."""

import json

import pytest

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of, genotype_texts, parse_genotype, read_genotype
from bertkernels.models.inheritance import inherited_student
from bertkernels.search import ffn_fitness
from bertkernels.search.evaluation import COMPLETE, FAILED
from bertkernels.search.ffn_run import search_ffn
from bertkernels.search.ffn_search import FfnSearch
from bertkernels.search.worker import work

PLAIN = "linear1_1(gelu(linear1_1(x,wb1)),wb2)"
OTHER = "tanh(linear2_2(relu(linear2_2(x,wb1)),wb2))"


def test_a_candidates_fitness_does_not_depend_on_those_before(ffn_flags, tmp_path):
    """The same weights, head and order of rows each time."""
    fitness = FfnSearch(ffn_flags(max_steps=6, learning_rate=1e-2)).fitness()
    first = fitness((PLAIN, PLAIN))
    other = fitness((OTHER, PLAIN))
    assert fitness((PLAIN, PLAIN)) == first and first[1]["loss"] != other[1]["loss"]
    assert first[0] == first[1]["accuracy"] and not any((tmp_path / "search/scratch").iterdir())


def test_stage_1_to_its_report(ffn_flags, tmp_path, monkeypatch):
    search = FfnSearch(ffn_flags(), check_teacher=True)
    assert work(search.study, search.claims, search.fitness()) == 5
    evaluations = search.study.evaluations()
    assert [e.state for e in evaluations] == [COMPLETE] * 5
    assert [e.origin for e in evaluations] == ["given"] + ["random"] * 4
    assert evaluations[0].path == (PLAIN, PLAIN) and len({e.key for e in evaluations}) == 5

    report = search_ffn(ffn_flags())  # nothing is left to do
    folder = tmp_path / "search"
    best = max(evaluations, key=lambda e: (e.fitness, -e.number))
    assert report["found"]["genotype"] == list(best.path) and len(report["best"]) == 5
    genotype = read_genotype(str(folder / "genotype.json"))
    assert genotype_texts(genotype) == list(best.path)
    assert genotype_texts(genotype_of(load_ours(folder / "found").config)) == list(best.path)
    for name in ("best_so_far.png", "population.png", "shapes_by_block.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    text = (folder / "report.md").read_text()
    assert best.path[0] in text and f'--plan "{report["found"]["plan"]}"' in text
    assert [entry["fitness"] for entry in json.loads((folder / "hall_of_fame.json").read_text())] == sorted(
        (e.fitness for e in evaluations), reverse=True
    )


def test_what_cannot_be_measured_failed(ffn_flags, monkeypatch):
    search = FfnSearch(ffn_flags(evaluations=4))
    fitness, steps = search.fitness(), []
    distil = ffn_fitness.distill

    def astray(arguments, run):
        steps.append(run)
        run.learning_rate = 1e38 if len(steps) == 2 else run.learning_rate
        return distil(arguments, run)

    def misshapen(supernet, genotype):
        if len(steps) == 3:
            steps.append(None)
            raise RuntimeError("The size of tensor a (2) must match the size of tensor b (3)")
        return inherited_student(supernet, genotype)

    monkeypatch.setattr(ffn_fitness, "distill", astray)
    monkeypatch.setattr(ffn_fitness, "inherited_student", misshapen)
    work(search.study, search.claims, fitness)
    found = [(e.state, e.why) for e in search.study.evaluations()]
    assert [state for state, _ in found] == [COMPLETE, FAILED, COMPLETE, FAILED]
    assert found[1][1].startswith("not a number after training: ")
    assert found[3][1].startswith("cannot be computed: The size of tensor a")


def test_candidates_train_on_text_first(ffn_flags, ffn_teacher, tmp_path, monkeypatch):
    from bertkernels.data.prepare_text import PrepareArguments, prepare_text

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
    runs, distil = [], ffn_fitness.distill

    def record(arguments, run):
        runs.append((arguments.prepared_dir, run.max_steps, run.learning_rate))
        return distil(arguments, run)

    monkeypatch.setattr(ffn_fitness, "distill", record)
    prepared = str(tmp_path / "prepared")
    FfnSearch(ffn_flags(prepared_dir=prepared, text_steps=3, learning_rate=1e-3)).fitness()((PLAIN, PLAIN))
    assert runs == [(prepared, 3, 1e-4), (None, 2, 1e-3)]


def test_stages_2_and_3(ffn_flags, tmp_path):
    given = tmp_path / "given.json"
    given.write_text(json.dumps([PLAIN, OTHER]))
    report = search_ffn(ffn_flags(2, genotype=given, evaluations=3, output_dir=tmp_path / "two"))
    shapes = {tuple(text.count("2_2") for text in entry["genotype"]) for entry in report["best"]}
    assert shapes == {(0, 2)} and len(report["best"]) == 3

    report = search_ffn(ffn_flags(3, evaluations=6, output_dir=tmp_path / "three"))
    assert report["stage"] == 3 and len(report["best"]) == 6
    found = load_ours(tmp_path / "three/found")
    assert genotype_texts(genotype_of(found.config)) == report["found"]["genotype"]
    assert type(found).__name__ == "EncoderForSequenceClassification", "with the head that was measured"


def test_partition_in_the_search(ffn_flags):
    pytest.importorskip("lightgbm", reason="the partition sampler needs LightGBM: pip install 'bertkernels[search]'")
    flags = {
        "sampler": "partition",
        "initial_samples": 20,
        "refit_interval": 10,
        "rejection_tries": 300,
        "evaluations": 40,
    }
    search = FfnSearch(ffn_flags(3, **flags))
    work(search.study, search.claims, lambda path: (float(str(path).count("4_")), {}))
    evaluations = search.study.evaluations()
    early = [e.fitness for e in evaluations if e.origin == "random"]
    late = [e.fitness for e in evaluations if e.origin == "promising"]
    assert len(late) > 10 and sum(late) / len(late) > sum(early) / len(early)


def test_a_study_with_other_settings(ffn_flags, tmp_path, sentences):
    FfnSearch(ffn_flags())
    with pytest.raises(InputError, match="begun with other settings.*\n.*stage: 1 before, 3 now"):
        FfnSearch(ffn_flags(3))
    rows = tmp_path / "other.tsv"
    rows.write_text("sentence\tlabel\n" + "good row\tgood\nbad row\tbad\n" * 8)
    with pytest.raises(InputError, match="begun with other settings.*\n.*training_rows: "):
        FfnSearch(ffn_flags(train_file=rows))
    with pytest.raises(InputError, match="training.max_steps: 2 before, 3 now"):
        FfnSearch(ffn_flags(max_steps=3))
    FfnSearch(ffn_flags(evaluations=7)), "more of the same"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"supernet": None}, "--supernet is missing"),
        ({"min_parameters": 10, "max_parameters": 20}, "no student has 10 to 20 parameters: the nearest has"),
        ({"stage": 2}, "stage 2 changes the expressions of a --genotype"),
        ({"text_steps": 3}, "--text_steps and --prepared_dir: give both or neither"),
        ({"validation_file": None}, "no rows with labels to evaluate on: add --held_out_samples"),
        ({"label_column": "nothing"}, "no column 'nothing' for the label"),
        ({"block_map": "3"}, "--block_map names 1 blocks, the student has 2"),
        ({"evaluations": 0}, "--evaluations must be at least 1, not 0"),
        ({"genotype": "nowhere"}, "genotype 'nowhere' is neither"),
        ({"sample_shapes": True}, "candidates are no supernets"),
    ],
)
def test_bad_input(ffn_values, capsys, tmp_path, flags, sentence):
    values = {name: value for name, value in (ffn_values() | flags).items() if value is not None}
    argv = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    assert main(["search", *argv]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "search").exists()


def test_genotypes_that_make_no_sense(ffn_values, capsys, tmp_path):
    file = tmp_path / "genotype.txt"
    file.write_text("linear1_1(gelu(linear1_1(x,wb1)),wb2)\nlinear1_1(gelu(tanh(linear1_1(x,wb1))),wb2)\n")
    argv = [part for name, value in ffn_values(2, genotype=file).items() for part in (f"--{name}", str(value))]
    assert main(["search", *argv]) == 2
    assert "genotype, 2: expression: an activation stands directly inside an activation" in capsys.readouterr().err


def test_parse_genotype_of_what_is_printed(ffn_values, capsys):
    argv = [part for name, value in ffn_values(3, evaluations=2).items() for part in (f"--{name}", str(value))]
    assert main(["search", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(parse_genotype([line for line in lines if line.startswith("linear")])) == 2
    assert any(line.startswith('--plan "2*(attention') or line.startswith('--plan "(attention') for line in lines)
