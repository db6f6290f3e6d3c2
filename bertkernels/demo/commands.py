"""The commands to go on with, as the report shows them."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bertkernels.demo.output_folder import FINETUNED


@dataclass(frozen=True)
class Command:
    """One command and what it is for; `argv` begins with "bertkernels"."""

    what: str
    argv: list[str]


PATCH_SNIPPET = """\
import bertkernels
from transformers import ConvBertConfig, ConvBertModel

model = ConvBertModel(ConvBertConfig())  # or one that you load with from_pretrained
print(bertkernels.patch(model))          # same parameters, same outputs
bertkernels.patch(model, unpad=True)     # real tokens only: padding changes nothing
bertkernels.unpatch(model)               # as it was
"""


def next_commands(output_dir: Path, encoder: Path, max_seq_length: int) -> list[Command]:
    """What a user would try next, from the folder that the demo was started in."""
    length = str(max_seq_length)
    return [
        Command("What runs on what here, and why", ["bertkernels", "info"]),
        Command("Measure the ops and encoders on this machine, under a minute", ["bertkernels", "bench", "--quick"]),
        Command(
            "Pre-train the published small ConvBERT (hours on a CPU); --train_file FILE takes your own text instead",
            ["bertkernels", "pretrain", "--preset", "convbert-small", "--text_source", "builtin"]
            + ["--max_steps", "10000", "--output_dir", "convbert-small"],
        ),
        Command(
            "Fine-tune the encoder that this demo pre-trained on all labelled examples; "
            "--train_file and --validation_file take your own TSV, CSV or JSON instead",
            ["bertkernels", "finetune", "--model_name_or_path", str(encoder), "--text_source", "builtin"]
            + ["--max_seq_length", length, "--output_dir", "finetuned-on-all"],
        ),
        Command(
            "Convert the fine-tuned model to a Hugging Face ConvBERT",
            ["bertkernels", "convert", str(output_dir / FINETUNED), "finetuned-huggingface", "--to", "huggingface"],
        ),
    ]


def shell(argv: list[str]) -> str:
    """The command as it works in a shell here: through this Python where `bertkernels` is not on the PATH."""
    if shutil.which(argv[0]) is None:
        argv = [_python(), "-m", *argv]
    return shlex.join(argv)


def _python() -> str:
    relative = os.path.relpath(sys.executable)
    return relative if not relative.startswith("..") else sys.executable
