"""`bertkernels prepare` of text: flags to a folder of examples."""

from dataclasses import dataclass, field
from pathlib import Path

from bertkernels.data.prepared.build import prepare
from bertkernels.data.prepared.folder import Prepared
from bertkernels.data.pretraining import worker_count
from bertkernels.data.text_arguments import TextArguments, check_text, source_of, tokenizer_of
from bertkernels.errors import InputError


@dataclass
class PrepareArguments(TextArguments):
    """Text, vocabulary and packing, and where the examples go."""

    output_dir: str | None = field(default=None, metadata={"help": "Folder for the examples, tokenizer and summary."})
    seed: int = field(default=42, metadata={"help": "Of every random draw."})
    shuffle: bool = field(
        default=False,
        metadata={
            "help": "Store examples in a drawn order, for readers that go through files (pretrain mixes anyway)."
        },
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace examples in --output_dir that were made of other text or options."}
    )


def prepare_text(arguments: PrepareArguments) -> Prepared:
    """Prepares the text that the flags name, or goes on where an earlier run was stopped."""
    if not arguments.output_dir:
        raise InputError("give --output_dir DIR for the examples")
    check_text(arguments)
    source = source_of(arguments)
    tokenizer = tokenizer_of(arguments, source)
    return prepare(
        source,
        tokenizer,
        arguments.packing_options(),
        Path(arguments.output_dir),
        seed=arguments.seed,
        validation_share=arguments.validation_share,
        shuffle=arguments.shuffle,
        num_workers=worker_count(source, arguments.num_workers),
        overwrite=arguments.overwrite_output_dir,
    )
