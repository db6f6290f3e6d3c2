"""How many blocks of a kernel a multiprocessor holds at once, and what keeps it from holding more."""

from typing import NamedTuple


class Limits(NamedTuple):
    """A multiprocessor's. shared_bytes: the most that can be set aside as shared memory, of the 192 or 256 KB of cache.

    columns: of tensor memory, which a block takes as a whole.
    """

    warps: int
    blocks: int
    registers: int
    shared_bytes: int
    columns: int = 0


LIMITS = {
    80: Limits(warps=64, blocks=32, registers=65_536, shared_bytes=164 * 1024),
    90: Limits(warps=64, blocks=32, registers=65_536, shared_bytes=228 * 1024),
    100: Limits(warps=64, blocks=32, registers=65_536, shared_bytes=228 * 1024, columns=512),
}
_PARTITIONS = 4  # of a multiprocessor, each with a quarter of the registers
_REGISTER_UNIT = 256  # registers are given to warps in multiples of it
_SHARED_UNIT = 128  # and shared memory to blocks in multiples of this,
_RESERVED = 1024  # with that much for CUDA itself beside it


class Occupancy(NamedTuple):
    """blocks, warps: a multiprocessor's. limited_by: which of the resources allow no more blocks."""

    blocks: int
    warps: int
    limited_by: tuple[str, ...]


def occupancy(target: int, threads: int, registers: int, shared_bytes: int, columns: int = 0) -> Occupancy:
    """Of a kernel whose blocks have so many threads, bytes of shared memory and columns of tensor memory.

    Args:
        target: compute capability times ten: 80, 90 or 100.
        registers: a thread's.

    Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (warps, blocks, registers,
    shared memory), and how `cuda_occupancy.h` of the CUDA toolkit rounds; PTX ISA, "Tensor Memory" (columns). Barriers,
    of which a multiprocessor has two a block that it can hold, are left out: a kernel here takes one.
    """
    limits = LIMITS[target]
    warps = -(-threads // 32)
    registers_a_warp = -(-registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    shared = -(-(shared_bytes + _RESERVED) // _SHARED_UNIT) * _SHARED_UNIT
    allowed = {
        "registers": limits.registers // _PARTITIONS // registers_a_warp * _PARTITIONS // warps,
        "shared memory": limits.shared_bytes // shared,
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
    }
    if columns:
        allowed["tensor memory"] = limits.columns // columns
    blocks = min(allowed.values())
    return Occupancy(blocks, blocks * warps, tuple(name for name, most in allowed.items() if most == blocks))
