"""What the pages show between their markers is what the committed results give."""

import re
from pathlib import Path

import pytest

from bertkernels.bench import limits_table, results
from bertkernels.bench.details import details
from bertkernels.bench.pages import write
from bertkernels.bench.report import BENCH, LIMITS, markers

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "benchmarks" / "results" / f"{device}.jsonl" for device in ("cpu", "cuda")]
README, DETAILS, PLOTS = ROOT / "README.md", ROOT / "docs" / "performance.md", ("docs/speed.svg", "docs/speed-dark.svg")


@pytest.fixture
def committed() -> list[dict]:
    rows = []
    for path in filter(Path.exists, FILES):
        rows = results.merged(rows, results.read(path))
    assert rows
    return rows


def _page(*names: str) -> str:
    return "".join("{}\nold\n{}\n".format(*markers(name)) for name in names)


def _between_markers(text: str) -> list[str]:
    pairs = [markers(name) for name in (LIMITS, BENCH) if markers(name)[0] in text]
    return [text.split(begin)[1].split(end)[0].removeprefix("\n") for begin, end in pairs]


def test_the_pages_are_what_the_committed_results_give(committed, tmp_path):
    (tmp_path / "docs").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "docs" / "performance.md"]
    for page, names in zip(pages, ([BENCH], [LIMITS, BENCH]), strict=True):
        page.write_text(_page(*names))
    write(committed, *pages, tmp_path / PLOTS[0])
    for page, ours in zip(pages, (README, DETAILS), strict=True):
        assert _between_markers(ours.read_text(encoding="utf-8")) == _between_markers(
            page.read_text(encoding="utf-8")
        ), f"{ours.relative_to(ROOT)} is not what benchmarks/results holds: `bertkernels bench --report` writes it anew"
    for plot in PLOTS:
        assert _texts(ROOT / plot) == _texts(tmp_path / plot)


def _texts(picture: Path) -> list[str]:
    """What is written on it, but for the scale: the rest each version of matplotlib draws a little differently."""
    texts = re.findall(r">([^<>]+)</text>", picture.read_text(encoding="utf-8"))
    assert texts
    return [text for text in texts if not text.endswith("×")]


def test_links_are_seen_from_the_short_page(committed, tmp_path):
    short, full = tmp_path / "pages" / "short.md", tmp_path / "full.md"
    short.parent.mkdir()
    for page, names in ((short, [BENCH]), (full, [LIMITS, BENCH])):
        page.write_text(f"above\n{_page(*names)}below\n")
    text = write(committed, short, full, tmp_path / "pictures" / "speed.svg")
    begin, end = markers(BENCH)
    assert short.read_text() == f"above\n{begin}\n{text}{end}\nbelow\n"
    assert _between_markers(full.read_text()) == [limits_table.markdown(committed), details(committed)]
    assert full.read_text().startswith("above\n") and full.read_text().endswith("below\n")
    assert "(../full.md)" in text and "(../full.md#limits)" in text and 'src="../pictures/speed.svg"' in text
    assert (tmp_path / "pictures" / "speed-dark.svg").exists()
