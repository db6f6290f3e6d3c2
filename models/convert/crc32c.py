"""CRC-32C (Castagnoli) over large buffers in NumPy, as TensorFlow stores it beside its blocks and tensors.

A byte-by-byte loop in Python would need minutes for a checkpoint of a gigabyte. Here a chunk is cut into lanes that
advance together, two bytes a step, and the lanes' registers are joined afterwards: a CRC register is linear over
GF(2), so register(A + B) = shift(register(A), len(B)) xor register_from_zero(B), and the shift by a number of bytes
is a 32x32 bit matrix.
"""

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected Castagnoli polynomial
_CHUNK = 1 << 22  # bytes that advance as one block of lanes: their transposed copy stays in the cache
_LANES = 1 << 13
_BITS = np.arange(32, dtype=np.uint32)


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Register updates for one byte [256] and for two bytes [65536]."""
    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, (byte >> 1) ^ np.uint32(_POLYNOMIAL), byte >> 1)
    pair = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(2):
        pair = byte[pair & 0xFF] ^ (pair >> 8)
    return byte, pair


_BYTE, _PAIR = _tables()


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """Bit matrix [32] (one column a register bit) times registers [N]."""
    bits = (registers[:, None] >> _BITS) & 1  # [N, 32]
    return np.bitwise_xor.reduce(bits * matrix, axis=1).astype(np.uint32)


@lru_cache(maxsize=256)
def _shift(length: int) -> np.ndarray:
    """The matrix [32] that advances a register over `length` zero bytes."""
    if length == 1:
        unit = np.uint32(1) << _BITS
        return _BYTE[unit & 0xFF] ^ (unit >> 8)
    half = _shift(length // 2)
    matrix = _apply(half, half)
    return _apply(_shift(1), matrix) if length % 2 else matrix


def _advance_lanes(register: int, data: np.ndarray, lanes: int) -> int:
    """The register after `data` [lanes * even number of bytes]; `lanes` is a power of two."""
    length = data.size // lanes
    steps = np.ascontiguousarray(data.view("<u2").reshape(lanes, length // 2).T)  # [steps, lanes]
    registers = np.zeros(lanes, np.uint32)
    registers[0] = register
    for pair in steps:
        registers = _PAIR[(registers ^ pair) & 0xFFFF] ^ (registers >> 16)
    while registers.size > 1:
        registers = _apply(_shift(length), registers[0::2]) ^ registers[1::2]
        length *= 2
    return int(registers[0])


def _advance(register: int, data: np.ndarray) -> int:
    lanes = _LANES
    while data.size:
        chunk = data[:_CHUNK]
        while lanes > 1 and chunk.size < lanes * 32:
            lanes //= 2
        if lanes == 1:
            for byte in data.tolist():
                register = int(_BYTE[(register ^ byte) & 0xFF]) ^ (register >> 8)
            return register
        whole = chunk.size - chunk.size % (2 * lanes)
        register = _advance_lanes(register, np.ascontiguousarray(chunk[:whole]), lanes)
        data = data[whole:]
    return register


def crc32c(data: bytes | np.ndarray) -> int:
    """CRC-32C of bytes or of a uint8 array [N]."""
    array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    return _advance(0xFFFFFFFF, array) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """The CRC as LevelDB tables and TensorFlow store it: rotated by 15 bits plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
