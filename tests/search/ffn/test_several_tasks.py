"""Stage 3 on several tasks at once: one supernet with a head for each, the mean of their scores on held-out rows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bertkernels.data.tokenizer import load_tokenizer
from bertkernels.errors import InputError
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.genotype import genotype_of, genotype_texts, parse_genotype
from bertkernels.models.inheritance import inherited_student
from bertkernels.search.ffn_run import search_ffn
from bertkernels.search.ffn_search import FfnSearch
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.training_arguments import FinetuneRunArguments

CANDIDATE = ("linear2_1(gelu(linear2_1(x,wb1)),wb2)", "linear1_2(gelu(linear1_2(x,wb1)),wb2)")


@pytest.fixture
def glue(tmp_path):
    rows = {
        "SST-2": "a good row\t1\nbad kernel\t0\nthe slow good\t1\nrow\t0\n",
        "CoLA": "x\t1\t\ta good row\nx\t0\t*\tkernel the bad\nx\t1\t\tfast\nx\t0\t*\tslow row\n",
    }
    for task, header in (("SST-2", "sentence\tlabel\n"), ("CoLA", "")):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for name in ("train", "dev"):
            (tmp_path / "glue" / task / f"{name}.tsv").write_text(header + rows[task] * 5)
    return str(tmp_path / "glue")


@pytest.fixture
def supernets(ffn_supernet, tmp_path):
    """A folder as training on both tasks at once writes it."""
    for seed, task in enumerate(("SST-2", "CoLA")):
        model = load_ours(Path(ffn_supernet))
        model.config.id2label = {0: "0", 1: "1"}
        torch.nn.init.normal_(model.classifier.output.weight, std=0.5, generator=torch.Generator().manual_seed(seed))
        model.save_pretrained(tmp_path / "shared" / task)
        load_tokenizer(ffn_supernet).save_pretrained(tmp_path / "shared" / task)
    return tmp_path / "shared"


@pytest.fixture
def flags(ffn_flags, supernets, glue):
    def make(stage=3, **changes):
        given = {"supernet": supernets, "glue_dir": glue, "task_name": "SST-2,CoLA", "multi_task": True}
        given |= {"held_out_samples": 0.5, "train_file": None, "validation_file": None, "evaluations": 3}
        return ffn_flags(stage, **given | changes)

    return make


def test_a_candidates_fitness_is_the_mean_over_the_tasks(flags, supernets, glue, tmp_path):
    search = FfnSearch(flags())
    fitness, measured = search.fitness()(CANDIDATE)
    assert fitness == pytest.approx(np.mean([measured["SST-2_accuracy"], measured["CoLA_mcc"]]))
    assert search.metric == "average" and search.study.settings["task"] == "SST-2, CoLA"
    assert set(search.study.settings["rows"]) == {"SST-2", "CoLA"}

    # the candidate as a model of its own, on the same rows
    student = inherited_student(load_ours(supernets / "CoLA"), parse_genotype(CANDIDATE))
    student.save_pretrained(tmp_path / "student")
    search.data.tokenizer.save_pretrained(tmp_path / "student")
    alone = FinetuneArguments(
        model_name_or_path=str(tmp_path / "student"),
        glue_dir=glue,
        task_name="CoLA",
        held_out_samples=0.5,
        max_seq_length=16,
    )
    settings = {"max_steps": 1, "learning_rate": 0.0, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    run = FinetuneRunArguments(output_dir=str(tmp_path / "alone"), **settings)
    assert finetune(alone, run).metrics["eval_loss"] == pytest.approx(measured["CoLA_loss"], rel=1e-5)


def test_the_found_model_has_each_head(flags, supernets, tmp_path):
    report = search_ffn(flags())
    assert len(report["best"]) == 3
    for task in ("SST-2", "CoLA"):
        found = load_ours(tmp_path / "search/found" / task)
        assert genotype_texts(genotype_of(found.config)) == report["found"]["genotype"]
        assert torch.equal(found.classifier.output.weight, load_ours(supernets / task).classifier.output.weight)
    assert json.loads((tmp_path / "search/report.json").read_text())["settings"]["fitness"] == "average"


def test_bad_input(flags, supernets, tmp_path):
    with pytest.raises(InputError, match="--multi_task is of stage 3"):
        FfnSearch(flags(1, supernet=supernets / "CoLA"))
    with pytest.raises(InputError, match="holds no fine-tuned model of RTE, only of CoLA, SST-2"):
        (tmp_path / "glue/RTE").mkdir()
        FfnSearch(flags(task_name="CoLA,RTE"))
    other = load_ours(supernets / "CoLA")
    torch.nn.init.ones_(other.model.embeddings.word_embeddings.weight)
    other.save_pretrained(supernets / "CoLA")
    with pytest.raises(InputError, match="the models of SST-2 and CoLA in .* differ in more than their heads"):
        FfnSearch(flags()).fitness()
    assert not (tmp_path / "search/report.json").exists()
