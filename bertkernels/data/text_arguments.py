"""The flags that say which text to pre-train on, and how it becomes examples."""

from dataclasses import dataclass, field
from typing import Literal

from transformers import PreTrainedTokenizerBase

from bertkernels.data.formats.piece import DOCUMENTS, ReadOptions
from bertkernels.data.formats.registry import FILE_FORMATS
from bertkernels.data.packing import PACKINGS, SHORTEST, Packing
from bertkernels.data.text_source import TextSource, builtin_source, dataset_source, file_source
from bertkernels.data.tokenizer import (
    MAX_TEXTS,
    load_tokenizer,
    read_vocabulary,
    tokenizer_from_vocabulary,
    train_tokenizer,
)
from bertkernels.errors import InputError

MAX_SEQ_LENGTH = 128


@dataclass
class TextArguments:
    """Text, vocabulary and packing."""

    text_source: Literal["builtin"] | None = field(
        default=None, metadata={"help": "builtin: the docstrings of the installed Python libraries."}
    )
    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Files or folders of text: one sentence a line, a blank line between documents; OpenWebText's tar "
            "files; JSON lines; WikiExtractor's output (.xz, .gz, .bz2 too); Parquet."
        },
    )
    format: Literal["text", "archive", "json_lines", "wikiextractor"] | None = field(
        default=None, metadata={"help": "Of --train_file, where its first bytes do not tell."}
    )
    documents: Literal["blank_lines", "files"] = field(
        default="blank_lines", metadata={"help": "What parts documents in plain text; files: each file is one."}
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Field of JSON lines or data sets with the text; default: the usual names."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "A Hugging Face data set: hub name, or a folder that save_to_disk wrote."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of --dataset_name."})
    dataset_split: str = field(default="train", metadata={"help": "Split of --dataset_name."})
    streaming: bool = field(default=False, metadata={"help": "Read --dataset_name without downloading all of it."})
    tokenizer_name: str | None = field(default=None, metadata={"help": "Folder (or hub name) of a tokenizer."})
    vocab_file: str | None = field(default=None, metadata={"help": "A BERT vocab.txt."})
    do_lower_case: bool = field(default=True, metadata={"help": "With --vocab_file: lower-case the text."})
    strip_accents: bool | None = field(
        default=None, metadata={"help": "With --vocab_file: drop accents; default: where it is lower-cased."}
    )
    vocab_size: int = field(
        default=8192, metadata={"help": "Size of the vocabulary that is trained where none is given."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": f"Tokens in an example (default: {MAX_SEQ_LENGTH})."}
    )
    packing: Literal["electra", "convbert", "bert_pairs", "full_sentences", "doc_sentences"] = field(
        default="electra",
        metadata={
            "help": "How sentences fill examples: one or two segments (electra; convbert: as its released code does), "
            "pairs for next-sentence prediction, or one full segment across documents or within them."
        },
    )
    dupe_factor: int = field(default=10, metadata={"help": "bert_pairs: times the text is gone through."})
    short_seq_prob: float = field(default=0.1, metadata={"help": "bert_pairs: share of documents in shorter pairs."})
    validation_share: float = field(
        default=0.0, metadata={"help": "Share of documents to hold out, for evaluation while pre-training."}
    )
    num_workers: int | None = field(
        default=None, metadata={"help": "Processes that read text; they do not change the examples (default: cores)."}
    )

    def packing_options(self) -> Packing:
        return Packing(self.packing, self.max_seq_length or MAX_SEQ_LENGTH, self.dupe_factor, self.short_seq_prob)


def check_text(arguments: TextArguments) -> None:
    """Raises InputError for flags that don't go together or are out of range."""
    given = [arguments.text_source is not None, bool(arguments.train_file), arguments.dataset_name is not None]
    if sum(given) != 1:
        raise InputError("give either --text_source builtin or --train_file FILE ... or --dataset_name NAME")
    if arguments.tokenizer_name and arguments.vocab_file:
        raise InputError("give --tokenizer_name or --vocab_file, not both")
    if arguments.vocab_file is None and (not arguments.do_lower_case or arguments.strip_accents is not None):
        raise InputError("--no_do_lower_case and --strip_accents are for --vocab_file")
    for name, value, known in (
        ("packing", arguments.packing, PACKINGS),
        ("documents", arguments.documents, DOCUMENTS),
        ("format", arguments.format, (None, *FILE_FORMATS)),
    ):
        if value not in known:
            raise InputError(f"--{name} must be one of {', '.join(filter(None, known))}, not {value!r}")
    if arguments.vocab_size < 200:
        raise InputError(f"--vocab_size must be at least 200, not {arguments.vocab_size}")
    if arguments.max_seq_length is not None and arguments.max_seq_length < SHORTEST:
        raise InputError(
            f"--max_seq_length {arguments.max_seq_length} leaves no room for text: at least {SHORTEST} is needed"
        )
    if arguments.dupe_factor < 1:
        raise InputError(f"--dupe_factor must be at least 1, not {arguments.dupe_factor}")
    for name in ("short_seq_prob", "validation_share"):
        if not 0 <= getattr(arguments, name) < 1:
            raise InputError(f"--{name} must be from 0 to below 1, not {getattr(arguments, name)}")
    if arguments.num_workers is not None and arguments.num_workers < 1:
        raise InputError(f"--num_workers must be at least 1, not {arguments.num_workers}")


def source_of(arguments: TextArguments) -> TextSource:
    """The text that the flags name. Raises InputError where it cannot be read."""
    if arguments.text_source == "builtin":
        return builtin_source()
    options = ReadOptions(
        documents=arguments.documents,
        text_column=arguments.text_column,
        dataset_config=arguments.dataset_config_name,
        dataset_split=arguments.dataset_split,
        streaming=arguments.streaming,
    )
    if arguments.dataset_name:
        return dataset_source(arguments.dataset_name, options)
    return file_source(arguments.train_file, options, arguments.format)


def tokenizer_of(arguments: TextArguments, source: TextSource) -> PreTrainedTokenizerBase:
    """The tokenizer that the flags name, or one trained on the text."""
    if arguments.tokenizer_name:
        return load_tokenizer(arguments.tokenizer_name)
    if arguments.vocab_file:
        vocabulary = read_vocabulary(arguments.vocab_file)
        return tokenizer_from_vocabulary(vocabulary, arguments.do_lower_case, arguments.strip_accents)
    return train_tokenizer(source.sample(MAX_TEXTS), arguments.vocab_size, source.fingerprint)
