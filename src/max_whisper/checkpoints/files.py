"""Files as memory maps: several parts read as one, every read held to the file's end."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from max_whisper.checkpoints.canonical import Tensor
from max_whisper.errors import CheckpointError


class MappedFile:
    """One file, or several that are parts of one, as a read-only run of bytes.

    Arrays are views of the maps; only one that lies across a cut between parts is copied. The
    maps live as long as their arrays.

    Attributes:
        name: The first part's path, for messages.
        size: The length of all parts together in bytes.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Maps ``paths`` in order.

        Raises:
            CheckpointError: If one cannot be read, or is empty.
        """
        self.name = str(paths[0])
        self._maps: list[mmap.mmap] = []
        self._starts: list[int] = []
        self.size = 0
        for path in paths:
            try:
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"cannot read {path}: {error}") from error
            self._maps.append(mapped)
            self._starts.append(self.size)
            self.size += len(mapped)

    def read(self, offset: int, count: int, what: str) -> bytes:
        """``count`` bytes from ``offset``; ``what`` names them should the file be too short.

        Raises:
            CheckpointError: If the file ends before.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise CheckpointError(
                f"{self.name} is truncated or damaged: {what} needs bytes {offset} to {offset + count} "
                f"of {self.size}"
            )
        pieces = []
        for start, mapped in zip(self._starts, self._maps):
            first, last = max(offset - start, 0), min(offset + count - start, len(mapped))
            if first < last:
                pieces.append(mapped[first:last])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def array(self, offset: int, dtype: DTypeLike, shape: Sequence[int], what: str) -> Tensor:
        """A read-only array at ``offset``, not necessarily aligned in memory.

        Raises:
            CheckpointError: If the file ends before.
        """
        kind: np.dtype[Any] = np.dtype(dtype)
        items = math.prod(shape)
        count = items * kind.itemsize
        for start, mapped in zip(self._starts, self._maps):
            if start <= offset and offset + count <= start + len(mapped):
                return np.frombuffer(mapped, kind, items, offset - start).reshape(shape)
        return np.frombuffer(self.read(offset, count, what), kind, items).reshape(shape)


def widen_bfloat16(bits: Tensor) -> Tensor:
    """bfloat16 given as uint16 -> the same values as float32 (numpy has no bfloat16)."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
