"""The training log as a file people can open: one JSON object a line."""

import json
import os
from pathlib import Path

from transformers import TrainerCallback, TrainerState, TrainingArguments

LOG_FILE = "train_log.jsonl"


class TrainLog(TrainerCallback):
    """Writes every log entry to `train_log.jsonl` in the output folder.

    A resumed run first cuts off what the broken one logged after its last checkpoint, so that every step stands there
    once.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control, **kwargs) -> None:
        if state.is_world_process_zero:
            path = Path(args.output_dir, LOG_FILE)
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(".writing")
            written.write_text("".join(f"{json.dumps(entry)}\n" for entry in state.log_history), encoding="utf-8")
            os.replace(written, path)

    def on_log(self, args: TrainingArguments, state: TrainerState, control, **kwargs) -> None:
        if state.is_world_process_zero:
            with open(Path(args.output_dir, LOG_FILE), "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(state.log_history[-1])}\n")
