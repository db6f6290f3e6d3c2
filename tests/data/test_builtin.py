import pytest

from bertkernels.data import builtin_text as module
from bertkernels.data.builtin_task import mask_names, split_task
from bertkernels.data.builtin_text import LIBRARIES, SourceText, builtin_text
from bertkernels.data.cache import cached
from bertkernels.data.formats.registry import read
from bertkernels.data.text_source import builtin_source
from bertkernels.errors import InputError


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """Two small libraries in place of the installed ones, and a cache folder of the test's own."""
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    files = {
        "stdlib/b.py": '"""The second file of this library.\n\nA paragraph that is in both files."""',
        "stdlib/a.py": '"""A paragraph that is in both files. It has two sentences."""',
        "stdlib/broken.py": '"""Not valid Python at all."""\ndef f(:',
        "stdlib/test/test_a.py": '"""Tests are not part of the text."""',
        "numpy/c.py": '"""A paragraph that is in both files.\n\nNumbers are added one by one."""',
    }
    for name, source in files.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(module, "_folder", lambda library: tmp_path / "lib" / library)
    return tmp_path / "lib"


def test_text_is_ordered_free_of_repeats_and_kept(libraries):
    found = builtin_text()
    assert [(source.library, source.file) for source in found] == [
        ("stdlib", "a.py"),
        ("stdlib", "b.py"),
        ("numpy", "c.py"),
    ]
    assert found[0].paragraphs == [["A paragraph that is in both files.", "It has two sentences."]]
    assert found[1].paragraphs == [["The second file of this library."], ["A paragraph that is in both files."]]
    assert found[2].paragraphs == [["Numbers are added one by one."]]
    for path in libraries.rglob("*.py"):
        path.unlink()
    assert builtin_text() == found, "the second call must read the cache"
    source = builtin_source()
    lines = read(source.pieces[0], source.options)
    assert list(lines)[:3] == ["A paragraph that is in both files.", "It has two sentences.", ""]


def test_no_text_is_an_error_and_leaves_no_cache(libraries, tmp_path):
    for path in libraries.rglob("*.py"):
        path.unlink()
    with pytest.raises(InputError, match="no built-in text"):
        builtin_text()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(path):
        path.write_text("half")
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError):
        cached(tmp_path / "made.txt", build)
    assert list(tmp_path.iterdir()) == []
    assert cached(tmp_path / "made.txt", lambda path: path.write_text("whole")).read_text() == "whole"
    assert cached(tmp_path / "made.txt", build).read_text() == "whole"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a torch.Tensor of PyTorch", "a library.Tensor of library"),
        ("np.ndarray or NumPy array in Python", "library.ndarray or library array in library"),
        ("Hugging Face Transformers and huggingface_hub", "library library and library"),
        ("a transformer is no library name, nor is npx", "a transformer is no library name, nor is npx"),
    ],
)
def test_own_names_are_masked(text, masked):
    assert mask_names(text) == masked


def _sources():
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()
    for number, library in enumerate(LIBRARIES):
        for file in range(60):
            own = " ".join(f"{word}{file}x{number}" for word in words)
            common = f"eight words in a row are shared by all files of number {number}"
            yield SourceText(library, f"file{file}.py", [[own, "PyTorch and numpy."], [common], ["Too short."]])


def test_task_is_split_by_file_without_leaks():
    train, dev = split_task(_sources(), seed=0, train_per_class=10**6, dev_per_class=10**6)
    assert not set(train) & set(dev)
    assert len(train) + len(dev) == 4 * 60 + 4, "each file's own text, and the shared one once a library, in training"
    assert 20 <= len(dev) <= 60
    assert {library for _, library in dev} == {library for _, library in train} == set(LIBRARIES)
    assert not any("shared by all" in text for text, _ in dev), "dev text that repeats training text must go"
    assert sum("shared by all" in text for text, _ in train) == 4
    assert not any(name in text.lower() for text, _ in train + dev for name in ("torch", "numpy"))


def test_task_is_capped_and_follows_the_seed():
    train, dev = split_task(_sources(), 0, 10, 3)
    assert sorted({sum(library == name for _, library in train) for name in ("torch", "numpy")}) == [10]
    assert len(dev) == 12
    assert split_task(_sources(), 0, 10, 3) == (train, dev)
    assert split_task(_sources(), 1, 10, 3) != (train, dev)
