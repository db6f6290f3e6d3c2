"""What a check found, as a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bertkernels.errors import InputError


@dataclass(frozen=True)
class FileCheck:
    """One file: its rows, how many the published one has (None: not known), what else is to be said, and why it cannot
    be used. `rows` None: it is not there."""

    file: str
    rows: int | None = None
    published: int | None = None
    note: str = ""
    problem: str | None = None

    @property
    def status(self) -> str:
        if self.problem:
            return "unusable"
        if self.rows is None:
            return "missing"
        if self.published is None:
            return f"{self.rows:,} rows"
        if self.rows == self.published:
            return f"complete: {self.rows:,} of {self.published:,} rows"
        kind = "partial" if self.rows < self.published else "more than published"
        return f"{kind}: {self.rows:,} of {self.published:,} rows"


def table(checks: Iterable[FileCheck]) -> str:
    """A line for each file."""
    rows = [(check.file, check.status, check.problem or check.note) for check in checks]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{file:<{widths[0]}}  {status:<{widths[1]}}  {note}".rstrip() for file, status, note in rows)


def refuse_unusable(checks: list[FileCheck], folder: Path, expected: str) -> None:
    """Raises InputError for a folder that has unusable files, or none at all."""
    problems = [check for check in checks if check.problem]
    if problems:
        others = f" (and {len(problems) - 1} other files)" if len(problems) > 1 else ""
        raise InputError(f"{folder} has files that cannot be used: {problems[0].problem}{others}")
    if all(check.rows is None for check in checks):
        raise InputError(f"{folder} holds none of the files that were looked for: expected {expected}")
