"""Pre-training examples on disk: documents are tokenised, packed and written once as Arrow, then memory-mapped."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from bertkernels.cache_folder import cache_folder
from bertkernels.data.builtin_text import builtin_documents, builtin_fingerprint
from bertkernels.data.cache import cached, file_digest, fingerprint
from bertkernels.data.corpus import read_documents
from bertkernels.data.example_builder import Example, ExampleBuilder
from bertkernels.errors import InputError

_FORMAT_VERSION = 1
# Documents packed with one random stream: how the work is cut up never depends on who does it.
_DOCUMENTS_A_CHUNK = 256
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("first_length", pa.int32())])


@dataclass(frozen=True)
class TextSource:
    """Documents to pre-train on, as often as they are asked for, and a fingerprint that stands for their content."""

    name: str
    documents: Callable[[], Iterator[list[str]]]
    fingerprint: str


def builtin_source() -> TextSource:
    """The docstrings of the installed libraries."""
    return TextSource("built-in text", builtin_documents, builtin_fingerprint())


def file_source(files: list[str]) -> TextSource:
    """Plain text files: one sentence a line, a blank line between documents. Raises InputError if one is missing."""
    for path in files:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such text file")
    return TextSource(
        ", ".join(files), lambda: read_documents(files), fingerprint([file_digest(path) for path in files])
    )


def pretraining_examples(
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    packing: str = "electra",
    seed: int = 0,
    folder: Path | None = None,
) -> datasets.Dataset:
    """Packed examples of `source`: `input_ids` (int32, unpadded, at most `max_length`) and `first_length` (int32).

    Built once and kept in `folder` (default: the cache folder) under a fingerprint of all that shapes them: text,
    vocabulary, length, packing rule and seed. Raises InputError where the text gives no example.
    """
    facts = {
        "format": _FORMAT_VERSION,
        "text": source.fingerprint,
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "max_length": max_length,
        "packing": packing,
        "seed": seed,
    }
    target = (folder or cache_folder()) / f"examples-{fingerprint(facts)}.arrow"

    def build(path: Path) -> None:
        chunks = _chunks(tqdm(source.documents(), desc=f"tokenising {source.name}", unit=" documents"))
        written = 0
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as writer:
            for number, documents in enumerate(chunks):
                generator = random.Random(f"{seed}/{number}")
                builder = ExampleBuilder(max_length, tokenizer.cls_token_id, tokenizer.sep_token_id, generator, packing)
                examples = list(pack(documents, tokenizer, builder))
                if examples:
                    writer.write_batch(_record_batch(examples))
                    written += len(examples)
        if not written:
            raise InputError(f"{source.name} holds no text to make examples of")

    return datasets.Dataset.from_file(str(cached(target, build)))


def pack(
    documents: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, builder: ExampleBuilder
) -> Iterator[Example]:
    """The examples of some documents (lists of sentences)."""
    documents = list(documents)
    ids = iter(sentence_ids(tokenizer, [sentence for document in documents for sentence in document]))
    for document in documents:
        built = [builder.add(next(ids)) for _ in document]
        built.append(builder.end_document())
        yield from (example for example in built if example is not None)


def sentence_ids(tokenizer: PreTrainedTokenizerBase, sentences: list[str]) -> list[list[int]]:
    """Token ids without special tokens; "[MASK]" and the like in the text are text, as in the original tokenizer."""
    if not sentences:
        return []
    return tokenizer(
        sentences,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        split_special_tokens=True,
        verbose=False,
    )["input_ids"]


def token_count(examples: datasets.Dataset) -> int:
    """Real tokens of all examples, [CLS] and [SEP] included."""
    return sum(len(chunk.values) for chunk in examples.data.column("input_ids").chunks)


def _chunks(documents: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    iterator = iter(documents)
    while chunk := list(itertools.islice(iterator, _DOCUMENTS_A_CHUNK)):
        yield chunk


def _record_batch(examples: list[Example]) -> pa.RecordBatch:
    columns = [[example.input_ids for example in examples], [example.first_length for example in examples]]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA
    )
