"""Hidden states of a whole data set, written to files, and what they look like."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch

from bertkernels.analysis.experiments.block_ranges import read_range
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.experiments.sites import chosen_sites
from bertkernels.analysis.jobs import MEASURED, Job, Trial
from bertkernels.analysis.surgery import Surgery
from bertkernels.analysis.track import INPUT, track_states
from bertkernels.analysis.track_summary import summarize_track
from bertkernels.training.tasks.task import Split

STATES = "states"
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass
class TrackArguments:
    """Which hidden states, and how they are kept."""

    sites: list[str] = field(
        default_factory=lambda: ["self_attention_ff", "attention", "mlp", "encoder"],
        metadata={"help": "What is kept of each block (default: what the published script keeps)."},
    )
    blocks: str | None = field(default=None, metadata={"help": "Of these blocks, such as 0-3 (default: of all)."})
    format: Literal["arrow", "safetensors"] = field(default="arrow", metadata={"help": "Of the files."})
    dtype: Literal["float32", "float16"] = field(default="float32", metadata={"help": "In the files."})
    shard_rows: int = field(default=128, metadata={"help": "Rows of the data set in a file."})
    feed_same: bool = field(
        default=False, metadata={"help": "Every block takes the embeddings in place of the block before."}
    )


class Track(ModelExperiment):
    """One job, which goes on with the files that are there. The embeddings' output is kept too."""

    name = "track"
    options: TrackArguments
    scored = False

    def own_settings(self) -> dict:
        return asdict(self.options)

    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        return [Trial(f"track {split}", {"split": split}) for split in self.subject.evaluation]

    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        return [Job(trial, MEASURED) for trial in self.trials(lines)]

    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        """Writes the states of a split's rows and sums them up."""
        options, subject = self.options, self.subject
        name = job.trial.labels["split"]
        split: Split = subject.evaluation[name]
        surgery = Surgery(subject.model)
        if options.feed_same:
            surgery.feed_same()
        with surgery:
            folder = track_states(
                subject.layered,
                split.features,
                subject.collate,
                subject.tokenizer,
                self._places(),
                self.folder / STATES / name,
                options.format,
                _DTYPES[options.dtype],
                self.run.per_device_eval_batch_size,
                options.shard_rows,
            )
        return asdict(summarize_track(folder))

    def _places(self) -> list[tuple[int, str]]:
        layered = self.subject.layered
        count = len(layered.blocks)
        blocks = range(count) if self.options.blocks is None else read_range(self.options.blocks, count)
        sites = chosen_sites(layered, self.options.sites)
        return [(0, INPUT), *((block, site) for block in blocks for site in sites if site in layered.sites(block))]
