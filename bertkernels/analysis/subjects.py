"""Subjects that experiments of one process share, so that a model and its data are read once."""

import json
from dataclasses import asdict
from pathlib import Path

from bertkernels.analysis.arguments import AnalysisArguments
from bertkernels.analysis.subject import Subject
from bertkernels.training.training_arguments import FinetuneRunArguments

_FREE = {"output_dir", "logging_dir", "overwrite_output_dir", "disable_tqdm", "run_name"}


class Subjects:
    """Keeps the last one; an experiment with the same flags gets it again."""

    def __init__(self) -> None:
        self._flags: str | None = None
        self._subject: Subject | None = None

    def open(self, arguments: AnalysisArguments, run: FinetuneRunArguments, folder: Path, scored: bool) -> Subject:
        """The subject of these flags; see `Subject`."""
        values = {name: value for name, value in run.to_dict().items() if name not in _FREE}
        of_folder = str(folder) if arguments.adapt else None  # where its weights are
        flags = json.dumps([asdict(arguments), values, of_folder, scored], sort_keys=True, default=str)
        if flags != self._flags:
            self._subject = None  # one in memory at a time
            self._subject, self._flags = Subject(arguments, run, folder, scored), flags
        return self._subject
