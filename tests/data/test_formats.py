import bz2
import gzip
import lzma

import pytest

from bertkernels.data.corpus import read_documents
from bertkernels.errors import InputError

TEXT = "\n\n One sentence. \nAnother: caf\u00e9.\n\n\nSecond document.\n"
DOCUMENTS = [["One sentence.", "Another: caf\u00e9."], ["Second document."]]


@pytest.mark.parametrize(
    ("suffix", "opener"), [(".txt", open), (".gz", gzip.open), (".xz", lzma.open), (".bz2", bz2.open)]
)
def test_documents_are_separated_by_blank_lines(tmp_path, suffix, opener):
    path = tmp_path / f"text{suffix}"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(TEXT)
    assert list(read_documents([path, path])) == DOCUMENTS * 2


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert list(read_documents([path])) == DOCUMENTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n\n", "is empty"),
        ("b.txt", b"good\n\xff\xfe bad\n", "not UTF-8"),
        ("c.xz", b"not compressed", "damaged compressed file"),
        ("d.gz", gzip.compress(b"a sentence\n" * 999, mtime=0)[:-9], "damaged compressed file"),
        ("e.txt", None, "No such file"),
    ],
    ids=["empty", "encoding", "xz", "gz", "missing"],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_documents([path]))
    assert str(path) in str(caught.value)


def test_real_corpora(data_dir):
    documents = list(read_documents([data_dir / "corpus" / "sample_text.txt"]))
    assert len(documents) > 1 and sum(map(len, documents)) > 20
