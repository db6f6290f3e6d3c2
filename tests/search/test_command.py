"""The search as a command: workers, kills, resumes, and bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bertkernels.cli.main import main
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.models.supernet import path_of
from bertkernels.search.evaluation import COMPLETE, FAILED, KILLED
from bertkernels.search.fitness import InheritedFitness
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.report import write_report
from bertkernels.search.worker import work

# The command with evaluations that take a while and say when they begin and end. Workers run this file too.
_SCRIPT = """
import os, sys, time
from bertkernels.cli.main import main
from bertkernels.search.fitness import InheritedFitness

measure = InheritedFitness.__call__

def say(what, path):
    with open(os.environ["SAID"], "a") as file:
        file.write(f"{what} {os.getpid()} {' '.join(path)}\\n")

def slowly(self, path):
    say("begins", path)
    time.sleep(0.3)
    found = measure(self, path)
    say("ends", path)
    return found

InheritedFitness.__call__ = slowly

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(flags, tmp_path):
    """Starts the search in a process group of its own."""
    (tmp_path / "script.py").write_text(_SCRIPT)
    started = []

    def start(**changes):
        arguments = vars(flags(workers=2, **changes))
        wanted = {name: value for name, value in arguments.items() if value not in (None, [])}
        given = [part for name, value in wanted.items() for part in (f"--{name}", str(value))]
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "script.py"), "search", *given],
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "SAID": str(tmp_path / "said"),
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def said(tmp_path):
    file = tmp_path / "said"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(what, int(pid), tuple(path.split())) for what, pid, path in (line.split(" ", 2) for line in lines)]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def busy(tmp_path, least):
    """A process in the middle of an evaluation, once so many have begun."""
    lines = said(tmp_path)
    ended = Counter((pid, path) for what, pid, path in lines if what == "ends")
    open_ones = [(pid, path) for what, pid, path in lines if what == "begins" and not ended[pid, path]]
    return open_ones[-1] if len(lines) >= least and open_ones else None


def ended(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    return output


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_killed_workers_and_a_killed_command(command, flags, tmp_path):
    """First a worker is killed, then the command; the same command again ends what they began, each plan once."""
    first = command()
    pid, path = wait_for(lambda: busy(tmp_path, 5))
    os.kill(pid, signal.SIGKILL)
    pid_again, _ = wait_for(
        lambda: next((line[1:] for line in said(tmp_path) if line[2] == path and line[1] != pid), 0)
    )
    assert pid_again != pid, "another worker does it again"
    wait_for(lambda: busy(tmp_path, 12))
    workers = {worker for _, worker, _ in said(tmp_path)}
    first.kill()
    first.wait()
    wait_for(lambda: all(map(gone, workers)), 20)

    output = ended(command())
    search = LayerSearch(flags())
    evaluations = search.study.evaluations()
    complete = Counter(e.path for e in evaluations if e.state == COMPLETE)
    assert set(complete.values()) == {1} and len(complete) == 12 + len(search.budget.compared)
    killed = [e.path for e in evaluations if e.state == FAILED and e.why == KILLED]
    assert path in killed and set(killed) <= set(complete)
    began = Counter(line[2] for line in said(tmp_path) if line[0] == "begins")
    assert all(count == 1 for plan, count in began.items() if plan not in killed), "no plan twice without need"

    report = json.loads((tmp_path / "search/report.json").read_text())
    assert report["evaluations"]["killed"] == len(killed) and f'--plan "{report["found"]["plan"]}"' in output
    found = EncoderForMaskedLM.from_pretrained(tmp_path / "search/found")
    assert found.config.plan == report["found"]["plan"] and found.config.supernet_kinds is None
    rows = [json.loads(line) for line in (tmp_path / "search/evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == len(evaluations) and {row["state"] for row in rows} == {"complete", "failed"}


def test_two_commands_share_a_study_and_a_worker_that_cannot_work_ends_it(command, tmp_path):
    processes = [command(), command()]
    for process in processes:
        ended(process)
    began = Counter(line[2] for line in said(tmp_path) if line[0] == "begins")
    assert set(began.values()) == {1}
    assert len({pid for _, pid, _ in said(tmp_path)}) == 4

    refused = command(evaluations=14, seed=3)
    output, _ = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "begun with other settings" in output and "seed: 0 before, 3 now" in output
    more = ended(command(evaluations=14))  # not a setting of an evaluation: there is more to do
    assert "--plan" in more
    assert len({line[2] for line in said(tmp_path)}) == len(began) + 2


# -- in this process ---------------------------------------------------------------------------------------------------


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
