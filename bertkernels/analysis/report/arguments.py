"""The flags of `bertkernels analyze report`."""

from dataclasses import dataclass, field


@dataclass
class ReportArguments:
    """Which experiments, and where the report goes."""

    output_dir: str = field(metadata={"help": "Where report.md, results.csv and plots go."})
    folders: list[str] | None = field(
        default=None,
        metadata={"help": "Folders of experiments, or folders of such folders (default: --output_dir itself)."},
    )
