"""Tables of labelled text: TSV, CSV, JSON and JSON lines, read strictly, with places for error messages."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertkernels.data.compressed import open_text
from bertkernels.errors import InputError

SUFFIXES = (".tsv", ".csv", ".json", ".jsonl")


@dataclass(frozen=True)
class Record:
    """One row of a table: where it stands ("FILE, line N") and its fields by column name."""

    place: str
    fields: dict[str, object]


def read_table(path: str | Path) -> list[Record]:
    """Reads a table whose kind its suffix tells.

    `.tsv`: tab-separated with a header line, quotes are ordinary characters (GLUE's form). `.csv`: comma-separated with
    a header line and the usual quoting. `.jsonl`: one object a line. `.json`: a list of objects, or an object with such
    a list under "data". Raises InputError naming file and line for a file that is missing, empty, of another kind or
    not UTF-8, and for a row with a wrong number of fields or that is no JSON object.
    """
    path = Path(path)
    readers = {".tsv": _read_tsv, ".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json_lines}
    if path.suffix not in readers:
        raise InputError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    try:
        records = list(readers[path.suffix](path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not records:
        raise InputError(f"{path} is empty: expected at least one row of text and label")
    return records


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, fields) of a tab-separated file without quoting; blank lines are passed over."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip("\r\n")
            if line.strip():
                yield number, line.split("\t")


def _read_tsv(path: Path) -> Iterator[Record]:
    yield from _with_header(path, tsv_rows(path))


def _read_csv(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            yield from _with_header(path, ((reader.line_num, row) for row in reader if row))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def _with_header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    _, header = next(rows, (0, []))
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise InputError(f"{path}, line 1: the column {sorted(repeated)[0]!r} occurs twice in the header")
    for number, fields in rows:
        if len(fields) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(fields)} fields, expected {len(header)} ({', '.join(header)})"
            )
        yield Record(f"{path}, line {number}", dict(zip(header, fields, strict=True)))


def _read_json_lines(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_record(f"{path}, line {number}", _parse_json(f"{path}, line {number}", line))


def _read_json(path: Path) -> Iterator[Record]:
    text = path.read_text(encoding="utf-8-sig")
    content = _parse_json(str(path), text) if text.strip() else []
    if isinstance(content, dict):
        content = content.get("data")
    if not isinstance(content, list):
        raise InputError(f'{path}: expected a list of objects, or an object with such a list under "data"')
    for number, value in enumerate(content, start=1):
        yield _json_record(f"{path}, record {number}", value)


def _parse_json(place: str, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error})") from error


def _json_record(place: str, value: object) -> Record:
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a JSON object, found {type(value).__name__}")
    return Record(place, value)
