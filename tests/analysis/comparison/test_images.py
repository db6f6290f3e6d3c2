"""MNIST's files and scikit-learn's digits."""

import gzip
import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bertkernels.analysis.comparison.images import load_images, read_idx
from bertkernels.errors import InputError


def write_idx(path, array):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for part, rows, suffix in (("train", 5, ""), ("t10k", 3, ".gz")):
        pixels = generator.integers(0, 256, (rows, 4, 4), dtype=np.uint8)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", pixels)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", np.arange(rows, dtype=np.uint8))
    return tmp_path


def test_reads_plain_and_compressed_files(folder):
    images = load_images(folder)
    assert images.train_x.shape == (5, 1, 4, 4) and images.test_x.shape == (3, 1, 4, 4)
    assert images.train_y.tolist() == [0, 1, 2, 3, 4] and images.test_y.dtype == torch.int64
    content = np.frombuffer((folder / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    np.testing.assert_allclose(images.train_x.flatten(), content / 255, rtol=1e-6)
    assert (images.channels, images.side, images.classes) == (1, 4, 5)


def test_digits():
    images = load_images("digits")
    assert len(images.train_x) == 1437 and len(images.test_x) == 360
    assert images.train_x.max() == 1 and images.train_x.min() == 0 and images.side == 8
    both = torch.cat([images.train_x, images.test_x]).flatten(1).double().numpy()
    assert sorted(map(tuple, both * 16)) == sorted(map(tuple, load_digits().data))
    assert images.test_y.bincount().tolist() == pytest.approx([36] * 10, abs=2)


def test_mnist_files(data_dir):
    images = load_images(data_dir / "mnist")
    assert images.side == 28 and images.classes == 10
    assert len(images.train_x) == len(images.train_y) and len(images.test_x) == len(images.test_y)


def test_bad_files(folder, tmp_path):
    with pytest.raises(InputError, match="is no folder with MNIST's files"):
        load_images(tmp_path / "nowhere")
    path = tmp_path / "idx"
    for content, message in [
        (b"\0\0\x0d\x01", "no idx file of unsigned bytes"),
        (b"\0\0\x08\x03\0\0", "ends within its header"),
        (struct.pack(">HBBI", 0, 8, 1, 7) + b"four", "should hold 7 bytes"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_idx(path)
    damaged = tmp_path / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        load_images(folder)
    write_idx(damaged, np.zeros(4, np.uint8))
    with pytest.raises(InputError, match=r"images \[3, 4, 4\] and labels \[4\]"):
        load_images(folder)
    damaged.unlink()
    with pytest.raises(InputError, match="neither t10k-labels-idx1-ubyte nor"):
        load_images(folder)
