"""The demo on made-up text and tiny models: its files, its page, its commands, and what it refuses to replace."""

import base64
import json
import random
import re
import time
from html.parser import HTMLParser

import pytest
import torch

from bertkernels.cli.main import main
from bertkernels.data.builtin_text import LIBRARIES, builtin_fingerprint
from bertkernels.demo.clock import Clock, minutes_text
from bertkernels.demo.commands import PATCH_SNIPPET
from bertkernels.demo.drop_in import _run_for
from bertkernels.demo.output_folder import check_demo_folder, start_demo_folder
from bertkernels.demo.pretraining import steps_in
from bertkernels.demo.settings import Settings
from bertkernels.errors import InputError

_SHARED_WORDS = "the a returns given every value of array tensor when not and is then used for with each".split()


def _write_builtin_text(cache) -> None:
    """Stands in for the documentation of the installed libraries: each has some words of its own."""
    generator = random.Random(0)
    cache.mkdir()
    lines = []
    for library in LIBRARIES:
        own = ["".join(generator.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(30)]
        for number in range(40):
            paragraphs = [
                [" ".join(generator.choices(_SHARED_WORDS + own, k=generator.randint(9, 24))) + "."] for _ in range(6)
            ]
            lines.append(json.dumps({"library": library, "file": f"file{number}.py", "paragraphs": paragraphs}))
    (cache / f"builtin-text-{builtin_fingerprint()}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A whole demo: the folder it was started in, its settings, and what it printed."""
    import contextlib
    import io

    from bertkernels.demo.tour import tour

    place = tmp_path_factory.mktemp("demo")
    _write_builtin_text(place / "cache")
    settings = Settings(
        output_dir=place / "demo_output",
        minutes=0.1,
        vocab_size=400,
        max_seq_length=32,
        plan="1*(mixed ffn)",
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        pretrain_batch=4,
        labelled_examples=64,
        finetune_epochs=1,
    )
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("BERTKERNELS_CACHE", str(place / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        torch.set_num_threads(1)
        report = tour(settings, time.monotonic())
    yield place, settings, report, printed.getvalue()
    torch.set_num_threads(threads)


def test_writes_models_results_and_report(demo):
    _, settings, report, _ = demo
    folder = settings.output_dir
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["finished"] is True
    assert report == folder / "report.html" and report.is_file()
    for model in ("pretrained", "finetuned", "finetuned_from_scratch"):
        assert (folder / model / "model.safetensors").is_file()
    assert 0 < results["drop_in"]["difference"]["largest"] < 1e-4
    assert results["drop_in"]["padded"]["change_by_padding"]["unpad"] < 1e-4
    assert results["drop_in"]["padded"]["change_by_padding"]["stock"] > 1e-3
    for mode in ("forward", "forward + backward"):
        assert all(times["p50"] > 0 for times in results["drop_in"]["modes"][mode]["times"].values())
    assert 1 <= results["pretraining"]["steps"] <= results["pretraining"]["planned_steps"]
    assert results["pretraining"]["log"][-1]["masked_lm_accuracy"] >= 0
    assert 0.2 < results["finetuning"]["majority_accuracy"] < 0.5
    assert set(results["seconds"]) == {"info", "text", "drop_in", "pretraining", "finetuning", "report", "all"}


def test_prints_steps_in_order(demo):
    *_, printed = demo
    headings = re.findall(r"^\[(\d)/6\] ", printed, flags=re.MULTILINE)
    assert headings == list("123456")
    assert re.search(r"a step takes \d+ ms: \d+ steps", printed)
    assert "{'" not in printed  # the trainers' own lines


class _Page(HTMLParser):
    """What a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_report_is_one_self_contained_page(demo):
    _, _, report, _ = demo
    text = report.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    images = [address for address in page.addresses if address.startswith("data:image/svg+xml;base64,")]
    assert len(images) == len(page.addresses) == page.tags.count("img") == 3
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in text and "url(" not in text
    for image in images:
        plot = base64.b64decode(image.partition(",")[2]).decode()
        references = re.findall(r"(?:href=\"|url\()([^\")]*)", plot)
        assert plot.startswith("<svg") and all(reference.startswith("#") for reference in references)
    assert report.stat().st_size < 500_000


def test_report_shows_measured_numbers(demo):
    _, settings, report, _ = demo
    results = json.loads((settings.output_dir / "results.json").read_text(encoding="utf-8"))
    text = report.read_text(encoding="utf-8")
    for run in ("pretrained", "from_scratch"):
        assert f"{results['finetuning'][run]['accuracy']:.1%}" in text
    times = results["drop_in"]["modes"]["forward"]["times"]
    assert f"{times['stock']['p50'] / times['patched']['p50']:.2f}" in text
    assert f"{results['pretraining']['steps']:,} steps" in text
    assert results["environment"]["packages"]["torch"] in text


def test_commands_of_the_report_work(demo, monkeypatch, capsys):
    place, settings, _, _ = demo
    results = json.loads((settings.output_dir / "results.json").read_text(encoding="utf-8"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("BERTKERNELS_CACHE", str(place / "cache"))
    short = ["--max_steps", "2", "--report_to", "none", "--disable_tqdm", "true", "--save_strategy", "no"]
    smaller = {
        "info": [],
        "bench": ["--help"],
        "pretrain": [*short, "--plan", "1*(mixed ffn)", "--per_device_train_batch_size", "2", "--vocab_size", "400"],
        "finetune": [*short, "--max_eval_samples", "8"],
        "convert": [],
    }
    verbs = [command["argv"][1] for command in results["next_commands"]]
    assert verbs == ["info", "bench", "pretrain", "finetune", "convert"]
    for command in results["next_commands"]:
        program, verb, *rest = command["argv"]
        assert program == "bertkernels"
        try:
            assert main([verb, *rest, *smaller[verb]]) == 0, capsys.readouterr().err
        except SystemExit as done:  # --help
            assert done.code == 0
    assert json.loads((place / "finetuned-huggingface" / "config.json").read_text())["model_type"] == "convbert"


def test_patch_snippet_works(capsys):
    shrunk = PATCH_SNIPPET.replace("ConvBertConfig()", "ConvBertConfig(num_hidden_layers=1, hidden_size=48)")
    shrunk = shrunk.replace("hidden_size=48", "hidden_size=48, num_attention_heads=4, intermediate_size=64")
    assert shrunk != PATCH_SNIPPET
    exec(compile(shrunk, "snippet", "exec"), {})
    assert "Swapped" in capsys.readouterr().out


def test_replaces_its_own_folder_only(tmp_path):
    folder = tmp_path / "out"
    start_demo_folder(folder)
    (folder / "finetuned").mkdir()
    (folder / "notes.txt").write_text("mine")
    start_demo_folder(folder)
    assert not (folder / "finetuned").exists()
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"made_by": "someone"}', None])
def test_refuses_a_folder_of_others(tmp_path, content, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ("results.json" if content else "thesis.txt")).write_text(content or "mine")
    with pytest.raises(InputError, match="did not make"):
        check_demo_folder(folder)
    assert main(["demo", "--output_dir", str(folder)]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("bertkernels demo: --output_dir") and "\n" not in printed
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["--minutes", "0"],
        ["--minutes", "nan"],
        ["--minutes", "soon"],
        ["--seed", "-1"],
        ["--output", "x"],
        ["--output_dir", __file__],
    ],
)
def test_bad_flags_end_with_one_sentence(argv, capsys):
    assert main(["demo", *argv]) == 2
    assert capsys.readouterr().err.startswith("bertkernels demo: ")


def test_steps_fit_the_time(tmp_path):
    settings = Settings(output_dir=tmp_path, max_steps=500)
    assert 80 <= steps_in(10.0, 0.1, settings) <= 100
    assert steps_in(1e6, 0.1, settings) == 500
    assert steps_in(-5.0, 0.1, settings) >= 1


def test_clock_counts_down(capsys):
    clock = Clock(1.0, time.monotonic() - 30, steps=2)
    assert 15 < clock.left() <= 60 - 30
    with clock.step("first", "Looking"):
        pass
    assert "[1/2] Looking" in capsys.readouterr().out
    assert 0 <= clock.seconds["first"] < 1
    assert minutes_text(125) == "2:05"


def test_a_process_past_its_time_is_ended():
    begin = time.monotonic()
    output, _, in_time = _run_for(["sh", "-c", "echo done; sleep 60"], 1.0)
    assert (output, in_time) == ("done\n", False)
    assert time.monotonic() - begin < 20
