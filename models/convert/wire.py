"""The protocol buffer wire format, as far as the index of a TensorFlow checkpoint uses it."""

import struct

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned number of 7 bits a byte, and the position after it. IndexError where the data end too early."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def read_message(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message by number, in order: numbers unsigned, anything of stated length as bytes.

    IndexError, struct.error or ValueError where the data are not a message.
    """
    fields: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        kind = tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, position = read_varint(data, position)
        elif kind == _BYTES:
            size, position = read_varint(data, position)
            value, position = data[position : position + size], position + size
            if position > len(data):
                raise IndexError
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            (value,) = struct.unpack_from("<I" if kind == _FIXED32 else "<Q", data, position)
            position += size
        else:
            raise ValueError(f"wire type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields
