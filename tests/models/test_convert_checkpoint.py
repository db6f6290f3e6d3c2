"""The reader of TensorFlow checkpoints, on checkpoints that a small writer here makes."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest

from bertkernels.errors import InputError
from bertkernels.models.convert.crc32c import crc32c, masked_crc32c
from bertkernels.models.convert.tensorflow_checkpoint import TensorFlowCheckpoint

NUMBERS = {
    np.dtype(name): number for name, number in (("f4", 1), ("f8", 2), ("i4", 3), ("i8", 9), ("?", 10), ("f2", 19))
}


def varint(number):
    text = b""
    while number > 0x7F:
        text += bytes([number & 0x7F | 0x80])
        number >>= 7
    return text + bytes([number])


def field(number, value):
    """A protocol buffer's field: numbers as varints, bytes with their length."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def block(entries, compression=0):
    """A table's block: keys share prefixes, with a restart at every 16th entry."""
    body, restarts, last = b"", [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % 16:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(body))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    body += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + bytes([compression])
    return body + struct.pack("<I", masked_crc32c(body))


def table(entries, block_size=8, compression=0):
    text, index = b"", []
    for start in range(0, len(entries), block_size):
        part = entries[start : start + block_size]
        written = block(part, compression)
        index.append((part[-1][0], varint(len(text)) + varint(len(written) - 5)))
        text += written
    ends = []
    for written in (block([(b"meta", b"")]), block(index)):
        ends.append(varint(len(text)) + varint(len(written) - 5))
        text += written
    return text + b"".join(ends).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@dataclass
class Written:
    """Raw bytes under a TensorFlow data type."""

    number: int
    shape: tuple
    raw: bytes


def write_checkpoint(prefix, arrays, shards=1, extra=b"", **table_options):
    """`extra` is appended to every entry of a variable."""
    data = [b""] * shards
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    for position, (name, array) in enumerate(sorted(arrays.items())):
        if not isinstance(array, Written):
            array = Written(NUMBERS[array.dtype], array.shape, array.tobytes())
        shard = position % shards
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        value = field(1, array.number) + field(2, shape)
        value += (field(3, shard) if shard else b"") + (field(4, len(data[shard])) if data[shard] else b"")
        value += field(5, len(array.raw)) + varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(array.raw))
        entries.append((name.encode(), value + extra))
        data[shard] += array.raw
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries, **table_options))
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    arrays = {f"electra/layer_{i}/kernel": generator.normal(size=(3, i + 1)).astype("f4") for i in range(40)}
    return arrays | {
        "global_step": np.array(7, "i8"),
        "double": generator.normal(size=5),
        "half": generator.normal(size=(2, 2)).astype("f2"),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), "f4"),
        "large": generator.normal(size=(500, 301)).astype("f4"),
    }


@pytest.mark.parametrize("shards", [1, 3])
def test_names_shapes_and_values(arrays, shards, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", arrays, shards)
    found = TensorFlowCheckpoint(tmp_path / "model.ckpt")
    assert found.shapes == {name: array.shape for name, array in arrays.items()}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert "nothing" not in found


def test_shapes_need_no_data(arrays, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.unlink()
    found = TensorFlowCheckpoint(tmp_path / "model.ckpt")
    assert len(found.shapes) == len(arrays)
    with pytest.raises(InputError, match="data-00000-of-00001 is missing"):
        found["half"]


def test_bfloat16(tmp_path):
    values = np.array([1.0, -2.5, 0.15625], "f4")
    raw = (values.view("u4") >> 16).astype("u2").tobytes()
    write_checkpoint(tmp_path / "model.ckpt", {"x": Written(14, (3,), raw)})
    assert np.array_equal(TensorFlowCheckpoint(tmp_path / "model.ckpt")["x"], values)


def test_every_way_to_name_a_checkpoint(arrays, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt-1", {"a": arrays["double"]})
    for path in ("model.ckpt-1", "model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001", "model.ckpt-1.meta", ""):
        assert list(TensorFlowCheckpoint(tmp_path / path)) == ["a"]

    write_checkpoint(tmp_path / "model.ckpt-2", {"b": arrays["double"]})
    with pytest.raises(InputError, match="several checkpoints and no file `checkpoint`: name one of model.ckpt-1, mod"):
        TensorFlowCheckpoint(tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text('model_checkpoint_path: "model.ckpt-2"\nall_model_checkpoint_paths: "model.ckpt-1"\n')
    assert list(TensorFlowCheckpoint(tmp_path)) == ["b"]
    state.write_text('model_checkpoint_path: "/where/it/was/trained/model.ckpt-1"\n')
    assert list(TensorFlowCheckpoint(tmp_path)) == ["a"]


def test_a_checkpoint_that_is_not_there_is_an_error(arrays, tmp_path):
    with pytest.raises(InputError, match=r"no TensorFlow checkpoint \(no \*.index file\)"):
        TensorFlowCheckpoint(tmp_path)
    with pytest.raises(InputError, match="no TensorFlow checkpoint .*model.ckpt"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")
    write_checkpoint(tmp_path / "model.ckpt-1", arrays)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    with pytest.raises(InputError, match="names 'model.ckpt-9', which is missing; the folder has model.ckpt-1"):
        TensorFlowCheckpoint(tmp_path)
    (tmp_path / "checkpoint").write_text("nothing\n")
    with pytest.raises(InputError, match="has no line model_checkpoint_path"):
        TensorFlowCheckpoint(tmp_path)


def test_damage_anywhere_in_the_index_is_found(arrays, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    index = tmp_path / "model.ckpt.index"
    content = index.read_bytes()
    meaningful = len(content) - 48  # the footer has unused bytes
    for position in range(0, meaningful, 37):
        index.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            found = TensorFlowCheckpoint(tmp_path / "model.ckpt").shapes
        except InputError as error:
            assert "model.ckpt.index" in str(error)
        else:  # the block of meta data is not read
            assert found == {name: array.shape for name, array in arrays.items()}
            assert b"meta" in content[position - 20 : position + 20]
    for length in (0, 10, 48, len(content) // 2, len(content) - 1):
        index.write_bytes(content[:length])
        with pytest.raises(InputError, match="model.ckpt.index"):
            TensorFlowCheckpoint(tmp_path / "model.ckpt")


def test_damaged_and_short_data_name_the_variable(arrays, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    offset = content.index(arrays["large"].tobytes())
    content[offset + 1000] ^= 1
    data.write_bytes(content)
    found = TensorFlowCheckpoint(tmp_path / "model.ckpt")
    assert np.array_equal(found["half"], arrays["half"])
    with pytest.raises(InputError, match="variable 'large' .* does not match its checksum: .*data-00000-of-00001"):
        found["large"]
    data.write_bytes(content[: offset + 100])
    with pytest.raises(InputError, match="variable 'large' .* cut off"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")["large"]
    data.write_bytes(b"")
    with pytest.raises(InputError, match="cut off"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")["large"]


def test_what_the_reader_does_not_support(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", {"text": Written(7, (1,), b"abc")})
    with pytest.raises(InputError, match="'text' .* data type number 7"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")["text"]
    write_checkpoint(tmp_path / "model.ckpt", {"x": Written(1, (3,), b"abcd")})
    with pytest.raises(InputError, match=r"'x' .* shape \[3\] does not fit its 4 bytes"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")["x"]
    write_checkpoint(tmp_path / "model.ckpt", {"x": np.zeros(2, "f4")}, extra=field(7, b"slice"))
    with pytest.raises(InputError, match="stored in slices"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")["x"]
    write_checkpoint(tmp_path / "model.ckpt", {"x": np.zeros(2, "f4")}, compression=1)
    with pytest.raises(InputError, match="compressed blocks"):
        TensorFlowCheckpoint(tmp_path / "model.ckpt")
    (tmp_path / "other.index").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="not the index of a TensorFlow checkpoint"):
        TensorFlowCheckpoint(tmp_path / "other")


def bytewise_crc(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    register = 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def test_checksum():
    # RFC 3720, B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    generator = np.random.default_rng(0)
    # the last is longer than the reader's chunks
    for size in (0, 1, 2, 63, 64, 65, 127, 1000, 4099, 70_001, (1 << 22) + 12_345):
        data = generator.integers(0, 256, size, np.uint8)
        assert crc32c(data) == crc32c(data.tobytes()) == bytewise_crc(data.tolist()), size
