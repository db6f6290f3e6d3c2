"""The search as its flags describe it: fitness, report, limits, and bad input."""

from pathlib import Path

import pytest

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.supernet import path_of
from bertkernels.search.fitness import InheritedFitness
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.report import write_report
from bertkernels.search.worker import work


def inherited(search):
    arguments = search.arguments
    return InheritedFitness(
        arguments.supernet,
        search.prepared,
        search.metric,
        arguments.fitness_examples,
        Path(arguments.output_dir),
        8,
        True,
    )


def test_fitness_is_the_models_accuracy_and_the_same_every_time(flags, supernet, prepared_dir):
    """As pre-training's own evaluation of the plan's model, which has no slots."""
    from bertkernels.data.prepared.folder import open_prepared
    from bertkernels.models.supernet import inherited_model
    from bertkernels.training.masked_lm_trainer import MaskedLMTrainer
    from bertkernels.training.pretrain import masking_collator
    from bertkernels.training.pretrain_arguments import PretrainArguments
    from bertkernels.training.pretraining_trainer import PretrainingSet
    from bertkernels.training.training_arguments import PretrainRunArguments

    prepared = open_prepared(prepared_dir)
    search = LayerSearch(flags())
    fitness = inherited(search)
    plan = "(ffn attention) (dynamic_conv dynamic_conv) (attention ffn)"
    path = path_of(search.config, plan)
    value, metrics = fitness(path)
    assert fitness(("ffn",) * 6)[1]["loss"] != metrics["loss"]
    assert fitness(path) == (value, metrics) and value == metrics["masked_lm_accuracy"]

    model = inherited_model(EncoderForMaskedLM.from_pretrained(supernet), plan)
    run = PretrainRunArguments(
        output_dir=search.arguments.output_dir, use_cpu=True, report_to="none", per_device_eval_batch_size=8
    )
    tokenizer = prepared.tokenizer()
    trainer = MaskedLMTrainer(
        model=model,
        args=run,
        eval_dataset=PretrainingSet(prepared.validation.select(range(16))),
        data_collator=masking_collator(PretrainArguments(max_seq_length=32), tokenizer, run),
    )
    alone = trainer.evaluate()
    assert alone["eval_loss"] == metrics["loss"] and alone["eval_masked_lm_accuracy"] == value


def test_report_and_plots(flags, tmp_path):
    search = LayerSearch(flags(counts=["ffn=2-4"], max_parameters=1_000_000))
    work(search.study, search.claims, inherited(search))
    content = write_report(search)
    folder = tmp_path / "search"
    for name in ("best_so_far.png", "population.png", "kinds_by_depth.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert EncoderConfig(plan=content["found"]["plan"], num_attention_heads=12).num_hidden_layers == 3
    assert content["found"]["within_limits"] and len(content["best"]) == 10
    assert [entry["name"] for entry in content["compared"]][-2:] == ["random order 1", "random order 2"]
    assert [row["plans"] for row in content["generations"]] == [4, 4, 4]
    for column in zip(*content["kind_shares"].values(), strict=True):
        assert sum(column) == pytest.approx(1)
    text = (folder / "report.md").read_text()
    assert f'--plan "{content["found"]["plan"]}"' in text and "not in it" in text
    assert max(entry["fitness"] for entry in content["best"]) == content["found"]["fitness"]


def test_latencies_are_measured_once_and_limit(flags, tmp_path, monkeypatch):
    from bertkernels.search import layer_search

    measured = []

    def measure(*arguments):
        measured.append(arguments)
        return {"encoder": 1.0, "attention": 2.0, "ffn": 1.0, "dynamic_conv": 0.5}

    monkeypatch.setattr(layer_search, "measure_latencies", measure)
    with pytest.raises(InputError, match="--max_latency_ms 3.5: the nearest plan has 4.000"):
        LayerSearch(flags(max_latency_ms=3.5))
    assert not (tmp_path / "search").exists(), "what is impossible leaves nothing behind"
    search = LayerSearch(flags(max_latency_ms=5.0))
    assert search.plans.figures_of(("ffn",) * 6).latency_ms == 7.0
    assert not search.plans.allows(("ffn",) * 6) and search.plans.allows(("dynamic_conv",) * 6)
    LayerSearch(flags(max_latency_ms=5.0))
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_parameters": 10}, "--max_parameters 10: the nearest plan has"),
        ({"counts": ["ffn=7"]}, "--counts asks for at least 7 sub-layers: 6 are feasible"),
        ({"counts": ["mixed=1"]}, "the supernet has no mixed"),
        ({"fitness": "rtd_auc"}, "--fitness must be one of masked_lm_accuracy, loss"),
        ({"population": 0}, "--population must be at least 1"),
        ({"evaluations": 0}, "--evaluations must be at least 1"),
        ({"supernet": "nowhere"}, "--supernet nowhere holds no model"),
        ({"prepared_dir": "nowhere"}, "nowhere holds no prepared examples"),
        ({"storage": "nonsense://x"}, "--storage nonsense://x"),
    ],
)
def test_bad_input(flags, tmp_path, changes, message):
    with pytest.raises(InputError) as caught:
        LayerSearch(flags(**changes))
    assert message in str(caught.value)
    assert not (tmp_path / "search").exists()


def test_what_is_no_supernet(flags, supernet_config, tmp_path):
    plain = EncoderConfig(**supernet_config.to_dict() | {"supernet_kinds": None})
    EncoderForMaskedLM(plain).save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="is no supernet: train one with"):
        LayerSearch(flags(supernet=str(tmp_path / "plain")))


def test_folders_with_something_else(flags, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/precious").write_text("")
    with pytest.raises(InputError, match="is not empty and holds no study"):
        LayerSearch(flags())
    LayerSearch(flags(), anew=True)
    LayerSearch(flags())
    with pytest.raises(InputError, match="begun with other settings"):
        LayerSearch(flags(seed=1))
    LayerSearch(flags(seed=1), anew=True)


def test_flags_by_name(capsys):
    assert main(["search", "--supernet", "x"]) == 2
    assert "--prepared_dir" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("LV-BERT's paper does not say") == 5
