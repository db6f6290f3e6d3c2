"""Every format gives the same lines: sentences, and "" at each document's end."""

import bz2
import gzip
import html
import io
import json
import lzma
import random
import tarfile

import datasets
import pytest

from bertkernels.data.formats.lines import cut
from bertkernels.data.formats.piece import ReadOptions
from bertkernels.data.formats.registry import FORMATS, format_of, read
from bertkernels.data.text_source import dataset_source, file_source
from bertkernels.errors import InputError

TEXT = "\n\n One sentence. \nAnother: caf\u00e9.\n\n\nSecond document.\n"
LINES = ["One sentence.", "Another: caf\u00e9.", "", "Second document.", ""]
DOCUMENTS = [LINES[:2], LINES[3:4]]


def _lines(source):
    return [line for piece in source.pieces for line in read(piece, source.options)]


def _tar(documents, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "opener"), [(".txt", open), (".gz", gzip.open), (".xz", lzma.open), (".bz2", bz2.open)]
)
def test_plain_text_is_separated_by_blank_lines(tmp_path, suffix, opener):
    path = tmp_path / f"text{suffix}"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(TEXT)
    assert format_of(path) == "text"
    assert _lines(file_source([str(path), str(path)])) == LINES * 2


def test_each_file_may_be_one_document(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(f"{name}\n\n{TEXT}", encoding="utf-8")
    whole = [line for line in LINES if line]
    source = file_source([str(tmp_path)], ReadOptions(documents="files"))
    assert _lines(source) == ["a.txt", *whole, "", "b.txt", *whole, ""]


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert _lines(file_source([str(path)])) == LINES


def test_archives_and_archives_in_them_are_streamed(tmp_path):
    members = {
        "one/a.txt": "One sentence.\n\nAnother: caf\u00e9.\n".encode(),
        "one/ignored.md": b"No document.",
        "one/b.txt": b"Second document.",
    }
    inner = lzma.compress(_tar(members))
    (tmp_path / "urlsf_subset00-1_data.xz").write_bytes(inner)  # as OpenWebText names its tar files
    (tmp_path / "z_outer.tgz").write_bytes(_tar({"x/y/urlsf_subset00-2_data.xz": inner, "c.txt": b"Third."}, "w:gz"))
    source = file_source([str(tmp_path)])
    assert {file["format"] for file in source.inputs} == {"archive"}
    assert _lines(source) == [*LINES, *LINES, "Third.", ""]


def test_json_lines_by_the_usual_or_a_named_field(tmp_path):
    path = tmp_path / "a.jsonl"
    records = [{"text": "\n".join(DOCUMENTS[0]), "body": "B."}, {"text": DOCUMENTS[1], "body": "C."}]
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    assert _lines(file_source([str(path)])) == LINES
    assert _lines(file_source([str(path)], ReadOptions(text_column="body"))) == ["B.", "", "C.", ""]


def test_wikiextractor_in_both_forms(tmp_path):
    title = "Tom & Jerry"
    block = f'<doc id="1" url="u?curid=1" title="{html.escape(title)}">\n{title}\n\n{{}}\n\n</doc>\n'
    text = "".join(block.format("\n\n".join(document)) for document in DOCUMENTS)
    (tmp_path / "wiki_00").write_text(text, encoding="utf-8")
    records = ({"id": "1", "title": title, "text": "\n".join(document)} for document in DOCUMENTS)
    (tmp_path / "wiki_01").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    source = file_source([str(tmp_path)])
    assert [file["format"] for file in source.inputs] == ["wikiextractor", "json_lines"]
    assert _lines(source) == LINES * 2


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["folder", "folders", "parquet", "arrow"])
def test_data_sets(tmp_path, monkeypatch, form, streaming):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    data = datasets.Dataset.from_dict({"id": [1, 2], "text": ["\n".join(document) for document in DOCUMENTS]})
    path = tmp_path / f"set.{form}"
    if form == "folder":
        data.save_to_disk(path)
    elif form == "folders":
        datasets.DatasetDict({"train": data}).save_to_disk(path)
    elif form == "parquet":
        data.to_parquet(path)
    else:
        data.save_to_disk(tmp_path / "saved")
        (next((tmp_path / "saved").glob("*.arrow"))).rename(path)
    options = ReadOptions(streaming=streaming)
    assert _lines(dataset_source(str(path), options)) == LINES
    if path.is_file():
        assert _lines(file_source([str(path)], options)) == LINES
    with pytest.raises(InputError, match="no field 'body' for the text; fields: id, text"):
        _lines(dataset_source(str(path), ReadOptions(streaming=streaming, text_column="body")))


def test_a_data_set_that_cannot_be_had(tmp_path):
    with pytest.raises(InputError, match=r"the data set '.*absent' \(split train\) could not be loaded"):
        dataset_source(str(tmp_path / "absent"), ReadOptions())


def _written(form, documents):
    if form == "text":
        return "\n\n".join("\n".join(document) for document in documents) + "\n"
    if form == "json_lines":
        return "".join(json.dumps({"text": document}) + "\n" for document in documents)
    return "".join('<doc id="1">\n' + "\n".join(document) + "\n</doc>\n" for document in documents)


@pytest.mark.parametrize("form", ["text", "json_lines", "wikiextractor"])
@pytest.mark.parametrize("size", [64, 500, 10_000])
def test_parts_of_a_file_hold_all_of_it(tmp_path, form, size):
    generator = random.Random(size)
    documents = [
        [f"sentence {i}/{j} caf\u00e9 {'x' * generator.randint(1, 60)}" for j in range(generator.randint(1, 6))]
        for i in range(60)
    ]
    path = tmp_path / "text"
    path.write_text(_written(form, documents), encoding="utf-8")
    source = file_source([str(path)], format=form, piece_bytes=size)
    expected = [line for document in documents for line in [*document, ""]]
    if size == 64 and form == "text":  # documents longer than a part are cut
        assert [line for line in _lines(source) if line] == [line for line in expected if line]
    elif size > 64:
        assert _lines(source) == expected
        assert len(source.pieces) > (1 if size == 500 else 0)
    longest = max(len(line) for line in path.read_bytes().splitlines(keepends=True))
    assert all(piece.size <= 2 * size + longest for piece in source.pieces)


def test_a_text_without_blank_lines_is_cut_between_sentences(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"sentence {number}\n" for number in range(1000)))
    ranges = cut(str(path), 1000, FORMATS["text"].ends_document)
    assert len(ranges) > 5 and ranges[0][0] == 0 and ranges[-1][1] == path.stat().st_size
    assert all(one[1] == other[0] for one, other in zip(ranges, ranges[1:], strict=False))
    source = file_source([str(path)], piece_bytes=1000)
    assert [line for line in _lines(source) if line] == path.read_text().splitlines()


def test_small_files_are_read_together_and_large_ones_in_parts(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("a sentence\n\n" * (100 if number == 3 else 5))
    pieces = file_source([str(tmp_path)], piece_bytes=200).pieces
    assert [len(piece.files) for piece in pieces if piece.end is None] == [3, 2]
    parts = [piece for piece in pieces if piece.end is not None]
    assert len(parts) > 4 and {piece.files for piece in parts} == {(str(tmp_path / "3.txt"),)}


def test_the_fingerprint_is_of_content_and_options(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    first = file_source([str(path)]).fingerprint
    moved = tmp_path / "moved.txt"
    moved.write_text(TEXT)
    assert file_source([str(moved)]).fingerprint == first
    assert file_source([str(path)], ReadOptions(documents="files")).fingerprint != first
    path.write_text(TEXT.replace("Second", "Third"))
    assert file_source([str(path)]).fingerprint != first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.txt", b"good\n\xff\xfe bad\n", "b.txt, line 2: not UTF-8"),
        ("c.xz", b"not compressed", "damaged compressed file"),
        ("d.gz", gzip.compress(b"a sentence\n" * 99999, mtime=0)[:-9], "d.gz, line [0-9]+: damaged after this line"),
        ("e.txt", None, "no such text file"),
        ("f.jsonl", b'{"text": "a"}\n{"text": \n', "f.jsonl, line 2: not valid JSON"),
        ("g.jsonl", b'{"text": "a"}\n[1]\n', "g.jsonl, line 2: expected a JSON object, found list"),
        ("h.jsonl", b'{"text": "a"}\n{"text": 3}\n', "h.jsonl, line 2: 'text' must be text or a list"),
        ("i.jsonl", b'{"t": "a"}\n', "i.jsonl, line 1: no text among the fields t; name it with --text_column"),
        ("wiki", b'<doc id="1">\na\n</doc>\nb\n', "wiki, line 4: expected <doc"),
        ("wiki", b'<doc id="1">\na\n', "wiki: the last <doc .* has no </doc>"),
        ("j.tar", _tar({"a.md": b"x"}), "j.tar holds no documents"),
        ("k.tar", _tar({"a.txt": b"x" * 99999})[:5000], "k.tar/a.txt: damaged archive"),
        ("l.tar", _tar({"a.txt": b"a\n\xff"}), "l.tar/a.txt, line 2: not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        _lines(file_source([str(path)]))
    assert str(path) in str(caught.value)


def test_the_line_is_right_in_a_later_part_of_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"a sentence\n\n" * 100 + b"\xff\n")
    with pytest.raises(InputError, match="line 201: not UTF-8"):
        _lines(file_source([str(path)], piece_bytes=300))


def test_a_folder_without_files(tmp_path):
    with pytest.raises(InputError, match="there are no files in it"):
        file_source([str(tmp_path)])


def test_real_corpora(data_dir):
    source = file_source([str(data_dir / "corpus")])
    assert {file["format"] for file in source.inputs} == {"text"}
    (sample,) = file_source([str(data_dir / "corpus" / "sample_text.txt")]).pieces
    lines = list(read(sample, ReadOptions()))
    assert lines.count("") > 1 and len(lines) > 20
