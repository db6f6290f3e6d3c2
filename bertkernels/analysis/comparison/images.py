"""Pictures with classes: MNIST's files, or scikit-learn's digits."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertkernels.data.compressed import DAMAGED, open_bytes
from bertkernels.errors import InputError

DIGITS = "digits"
_TRAIN, _TEST = "train", "t10k"
_UNSIGNED_BYTES = 8


@dataclass(frozen=True)
class Images:
    """Pixels fp32 [N, C, S, S] from 0 to 1, and classes int64 [N], to train with and to test with."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    @property
    def channels(self) -> int:
        return self.train_x.shape[1]

    @property
    def side(self) -> int:
        return self.train_x.shape[2]

    @property
    def classes(self) -> int:
        return int(self.train_y.max()) + 1


def load_images(source: str | Path) -> Images:
    """ "digits" (scikit-learn's, 8 by 8, a fifth of them to test with), or a folder with MNIST's four files.

    Raises:
        InputError: no such folder, a file that is missing or damaged, or no scikit-learn.
    """
    return _digits() if str(source) == DIGITS else _mnist(Path(source))


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in an idx file, which may be compressed. Raises InputError for anything else."""
    try:
        with open_bytes(path) as file:
            content = file.read()
    except (OSError, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTES:
        raise InputError(f"{path} is no idx file of unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise InputError(f"{path} ends within its header")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(
            f"{path} should hold {math.prod(shape)} bytes for {list(shape)}, it has {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _mnist(folder: Path) -> Images:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder with MNIST's files (for scikit-learn's digits, say {DIGITS!r})")
    return Images(*_mnist_part(folder, _TRAIN), *_mnist_part(folder, _TEST))


def _mnist_part(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    classes = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or classes.shape != pixels.shape[:1]:
        raise InputError(f"{folder}: {part} has images {list(pixels.shape)} and labels {list(classes.shape)}")
    return torch.tensor(pixels).float().div(255)[:, None], torch.tensor(classes).long()


def _find(folder: Path, name: str) -> Path:
    names = (name, f"{name}.gz")
    found = next((folder / each for each in names if (folder / each).is_file()), None)
    if found is None:
        raise InputError(f"{folder} has neither {' nor '.join(names)}")
    return found


def _digits() -> Images:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError("digits come with scikit-learn, which is not installed: pip install scikit-learn") from error
    digits = load_digits()
    parts = train_test_split(digits.images / 16, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    train_x, test_x, train_y, test_y = map(torch.tensor, parts)
    return Images(train_x.float()[:, None], train_y.long(), test_x.float()[:, None], test_y.long())
