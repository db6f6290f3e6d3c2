"""`bertkernels export`: a trained model as an ONNX file."""

import argparse
from pathlib import Path
from typing import NoReturn

from bertkernels.errors import InputError

_DESCRIPTION = """\
Writes a model to an ONNX file of standard operators, with its configuration and tokenizer beside it. MODEL_DIR is a
folder of ours or of a Hugging Face ConvBERT; the head is the one that its configuration names. Where onnxruntime is
installed the file is run beside the model and the largest difference printed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def run(argv: list[str]) -> int:
    """Exports, checks and says what was written."""
    arguments = _parse(argv)
    folder, file = arguments.model, arguments.file
    if not (folder / "config.json").is_file():
        raise InputError(f"MODEL_DIR {folder} holds no model: there is no config.json")

    from bertkernels.export.check import largest_differences, onnxruntime_is_installed
    from bertkernels.export.load import load_model
    from bertkernels.export.onnx_file import check_onnx_export, to_onnx

    check_onnx_export(file, arguments.opset, arguments.overwrite)
    beside = file.resolve().parent != folder.resolve()
    if beside and not arguments.overwrite:
        _check_beside(folder, file.parent)
    model = load_model(folder, arguments.part, arguments.unpad)
    to_onnx(model, file, opset=arguments.opset, overwrite=arguments.overwrite)
    print(f"{file}: {type(model).__name__}, {file.stat().st_size / 1e6:.1f} MB")
    if beside:
        _write_beside(model.config, folder, file.parent)
    if not onnxruntime_is_installed():
        print("  not checked: onnxruntime is not installed (pip install 'bertkernels[onnx]')")
        return 0
    for name, difference in largest_differences(model, file).items():
        print(f"  {name}: differs from the model's by {difference:.1e} at most (onnxruntime, CPU)")
    return 0


def _check_beside(source: Path, folder: Path) -> None:
    """Raises where what goes beside the file would replace something."""
    from bertkernels.models.convert.save import TOKENIZER_FILES

    for name in ("config.json", *(name for name in TOKENIZER_FILES if (source / name).is_file())):
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists; --overwrite replaces it")


def _write_beside(config, source: Path, folder: Path) -> None:
    from bertkernels.models.convert.save import copy_tokenizer

    config.save_pretrained(folder)
    copied = copy_tokenizer(source, folder)
    print(f"  beside it: {', '.join(['config.json', *copied])}" + ("" if copied else " (no tokenizer in MODEL_DIR)"))


def _parse(argv: list[str]) -> argparse.Namespace:
    from bertkernels.export.onnx_file import OPSET

    parser = _Parser(prog="bertkernels export", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL_DIR", type=Path)
    parser.add_argument("file", metavar="OUT.onnx", type=Path)
    parser.add_argument("--part", help="discriminator, generator or encoder, of a pre-training pair; or encoder alone")
    parser.add_argument(
        "--unpad", action="store_true", help="of a Hugging Face model: padding takes no part (bertkernels.patch)"
    )
    parser.add_argument("--opset", type=int, default=OPSET, help="version of ONNX's operators (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return parser.parse_args(argv)
