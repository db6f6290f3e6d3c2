"""Writes converted models: everything under a temporary name first, so that a folder is never half written."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel

from bertkernels.errors import InputError

TOKENIZER_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")


def save_model(
    model: PreTrainedModel, folder: Path, tokenizer_source: Path | None = None, overwrite: bool = False
) -> list[str]:
    """Writes config.json and model.safetensors to `folder`, with the tokenizer's files of another folder if it has any.

    Returns the names of the tokenizer files. Raises InputError where `folder` is not empty and not to be overwritten.
    """
    with replaced_folder(folder, overwrite) as temporary:
        model.save_pretrained(temporary)
        return copy_tokenizer(tokenizer_source, temporary) if tokenizer_source is not None else []


def check_destination(folder: Path, overwrite: bool) -> None:
    """Raises InputError where `folder` is a file, or not empty and not to be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a folder is to be written there")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty; --overwrite_output_dir replaces the model in it")


@contextmanager
def replaced_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; its files move to `folder` at the end, or vanish on an error.

    In a folder that is overwritten, the former model's weights go away and other files stay.
    """
    check_destination(folder, overwrite)
    folder = folder.absolute()
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise InputError(f"{folder.parent} cannot be written to: {error.strerror}") from error
    try:
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
            return
        for pattern in _WEIGHT_FILES:
            for former in folder.glob(pattern):
                if not (temporary / former.name).exists():
                    former.unlink()
        for file in temporary.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_tokenizer(source: Path, folder: Path) -> list[str]:
    """Copies the tokenizer's files; where they leave its class to the model type, they then say that it is BERT's."""
    copied = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    for name in copied:
        shutil.copyfile(source / name, folder / name)
    if copied:
        path = folder / "tokenizer_config.json"
        try:
            settings = json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise InputError(f"{source / path.name} is not JSON: {error}") from None
        if "tokenizer_class" not in settings:
            path.write_text(json.dumps(settings | {"tokenizer_class": "BertTokenizer"}, indent=2) + "\n")
    return copied
