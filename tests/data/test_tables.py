import json

import pytest

from bertkernels.data.labelled_text import Columns, label_ids, label_names, labelled_text
from bertkernels.data.tables import read_table
from bertkernels.errors import InputError

ROWS = [('A "quoted" word', "b", "yes"), ("Caf\u00e9, and a comma", "d", "no")]


def _tsv(rows):
    return "\n".join("\t".join(row) for row in [("sentence1", "sentence2", "label"), *rows]) + "\n"


def _csv(rows):
    quoted = [[f'"{field.replace(chr(34), chr(34) * 2)}"' for field in row] for row in rows]
    return "\r\n".join(",".join(row) for row in [("sentence1", "sentence2", "label"), *quoted]) + "\r\n"


def _objects(rows):
    return [dict(zip(("sentence1", "sentence2", "label"), row, strict=True)) for row in rows]


FORMS = {
    "a.tsv": _tsv,
    "a.csv": _csv,
    "a.json": lambda rows: json.dumps(_objects(rows)),
    "b.json": lambda rows: json.dumps({"version": 1, "data": _objects(rows)}),
    "a.jsonl": lambda rows: "\n".join(map(json.dumps, _objects(rows))),
}


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_form_gives_the_same_rows(write, name, mark):
    rows = labelled_text(read_table(write(name, mark + FORMS[name](ROWS))), Columns())
    assert rows.firsts == [row[0] for row in ROWS]
    assert rows.seconds == [row[1] for row in ROWS]
    assert rows.labels == ["yes", "no"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", "is empty"),
        ("a.tsv", "sentence\tlabel\n", "is empty"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\n", r"line 3: 1 fields, expected 2 \(sentence, label\)"),
        ("a.tsv", "sentence\tsentence\na\t1\n", "line 1: the column 'sentence' occurs twice"),
        ("a.csv", 'text,label\n"a,1\n', "line 2: not valid CSV"),
        ("a.csv", "text,label\na,1,2\n", "line 2: 3 fields, expected 2"),
        ("a.json", "", "is empty"),
        ("a.json", "[]", "is empty"),
        ("a.json", '{"rows": []}', "expected a list of objects"),
        ("a.json", "[1]", "record 1: expected a JSON object, found int"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "line 2: not valid JSON"),
        ("a.txt", "text\n", r"ends in \.tsv, \.csv"),
        ("a.tsv", b"sentence\tlabel\n\xff\t1\n", "not UTF-8"),
    ],
)
def test_bad_tables_are_named(write, name, content, message):
    path = write(name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="absent.tsv: No such file"):
        read_table(tmp_path / "absent.tsv")


@pytest.mark.parametrize(
    ("columns", "content", "message"),
    [
        (Columns(), "a\tlabel\nx\t1\n", "line 2: no text column among a, label; name it with --sentence1_column"),
        (Columns(), "text\tb\nx\t1\n", "line 2: no label column among text, b; name it with --label_column"),
        (Columns("body"), "text\tlabel\nx\t1\n", "no column 'body' for the text; columns: text, label"),
        (Columns(None, "other"), "text\tlabel\nx\t1\n", "no column 'other' for the second text"),
        (Columns(None, None, "y"), "text\tlabel\nx\t1\n", "no column 'y' for the label"),
        (Columns(), "text\tlabel\nx\t1\ny\t\n", "line 3: 'label' must hold a label, found ''"),
        (Columns(), "text\tlabel\nx\t1\ny\t2.75\n", "line 3: the label '2.75' is a number; .*--task_type regression"),
    ],
)
def test_bad_columns_and_labels(write, columns, content, message):
    with pytest.raises(InputError, match=message):
        labelled_text(read_table(write("a.tsv", content)), columns)


@pytest.mark.parametrize("value", ["", "high", "nan", "inf"])
def test_regression_takes_numbers_only(write, value):
    good = labelled_text(read_table(write("a.tsv", "text\tscore\nx\t1\ny\t2.75\n")), Columns(), regression=True)
    assert good.labels == [1.0, 2.75]
    with pytest.raises(InputError, match="line 2: 'score' must be a number"):
        labelled_text(read_table(write("a.tsv", f"text\tscore\nx\t{value}\n")), Columns(), regression=True)


def test_json_that_is_no_text_or_lacks_a_field(write):
    with pytest.raises(InputError, match="record 1: 'text' must be text, found 3"):
        labelled_text(read_table(write("a.json", '[{"text": 3, "label": 1}]')), Columns())
    with pytest.raises(InputError, match="record 2: the column 'label' is missing"):
        labelled_text(read_table(write("a.json", '[{"text": "a", "label": 1}, {"text": "a"}]')), Columns())


def test_labels_are_numbered_by_value_or_alphabet(write):
    def rows(labels):
        content = "text\tlabel\n" + "".join(f"x\t{label}\n" for label in labels)
        return labelled_text(read_table(write("a.tsv", content)), Columns())

    assert label_names(rows(["10", "9", "-1"])) == ["-1", "9", "10"]
    assert label_names(rows(["pos", "10", "neg"])) == ["10", "neg", "pos"]
    assert label_ids(rows(["b", "a", "b"]), ["a", "b"]) == [1, 0, 1]
    with pytest.raises(InputError, match=r"a\.tsv, line 3: unknown label 'c', expected one of 'a', 'b'"):
        label_ids(rows(["b", "c"]), ["a", "b"])
