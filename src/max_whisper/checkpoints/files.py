"""Files as memory maps: several parts read as one, every read held to the file's end."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
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
        paths: The parts.
        state: What the file system says of the parts, as text: it differs once one has changed.
        changed: When a part was last written, in nanoseconds since the epoch.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Maps ``paths`` in order.

        Raises:
            CheckpointError: If one cannot be read, or is empty.
        """
        self.paths = tuple(path.absolute() for path in paths)
        self.name = str(paths[0])
        self._maps: list[mmap.mmap] = []
        self._starts: list[int] = []
        self.size = 0
        stats: list[os.stat_result] = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    stats.append(os.fstat(file.fileno()))
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                reason = "it is empty" if path.is_file() and not path.stat().st_size else error
                raise CheckpointError(f"cannot read {path}: {reason}") from error
            self._maps.append(mapped)
            self._starts.append(self.size)
            self.size += len(mapped)
        self.changed = max(max(stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)
        self.state = json.dumps(
            [[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats]
        )

    def add_to(self, digest: hashlib._Hash) -> None:
        """Adds the content to a hash."""
        for mapped in self._maps:
            digest.update(mapped)

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
                view: Tensor = np.frombuffer(mapped, kind, items, offset - start).reshape(shape)
                return view
        copy: Tensor = np.frombuffer(self.read(offset, count, what), kind, items).reshape(shape)
        return copy


def widen_bfloat16(bits: Tensor) -> Tensor:
    """bfloat16 given as uint16 -> the same values as float32 (numpy has no bfloat16)."""
    wide: Tensor = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide
