"""What the pages show between their markers is what the committed results give."""

import re
from pathlib import Path

import pytest

from bertkernels.bench import results
from bertkernels.bench.details import details
from bertkernels.bench.pages import write
from bertkernels.bench.report import BEGIN, END

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


def _between_markers(text: str) -> str:
    return text.split(BEGIN)[1].split(END)[0].removeprefix("\n")


def test_the_pages_are_what_the_committed_results_give(committed, tmp_path):
    (tmp_path / "docs").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "docs" / "performance.md"]
    for page in pages:
        page.write_text(f"{BEGIN}\n{END}\n")
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
    for page in (short, full):
        page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    text = write(committed, short, full, tmp_path / "pictures" / "speed.svg")
    assert short.read_text() == f"above\n{BEGIN}\n{text}{END}\nbelow\n"
    assert full.read_text() == f"above\n{BEGIN}\n{details(committed)}{END}\nbelow\n"
    assert "(../full.md)" in text and 'src="../pictures/speed.svg"' in text
    assert (tmp_path / "pictures" / "speed-dark.svg").exists()
