"""Packed weights on disk: packed once, mapped at every later start.

One file holds all of a checkpoint's packed arrays, each at a multiple of 64 bytes; a record
beside it holds their places and what the file system said of the file once it was whole. A file
that has been touched since is packed again.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints import cache_folder

FORMAT = 5  # raised whenever packing changes
ALIGNMENT = 64

Arrays = dict[str, NDArray[np.int32] | NDArray[np.float32]]


def packed_weights(fingerprint: str, part: str, pack: Callable[[], Arrays]) -> Arrays:
    """The arrays that ``pack`` makes, mapped from disk if they were packed before.

    Args:
        fingerprint: Identifies the checkpoint's content.
        part: Which graph's weights, and in which precision.
        pack: Makes them. A folder that cannot be written costs the time to pack at each start.
    """
    path = _path(fingerprint, part)
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, TypeError):
        arrays = pack()
    try:
        _write(path, arrays)
        return _read(path)
    except OSError:
        return arrays


def is_packed(fingerprint: str, part: str) -> bool:
    """Whether a checkpoint's part was packed before."""
    return _path(fingerprint, part).is_file()


def _path(fingerprint: str, part: str) -> Path:
    return cache_folder() / "weights" / f"{fingerprint[:32]}-{part}-{FORMAT}.bin"


def _read(path: Path) -> Arrays:
    record: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
    with path.open("rb") as file:
        if record["state"] != _state(file.fileno()):
            raise ValueError(f"{path} was changed")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        name: np.frombuffer(content, dtype, int(np.prod(shape)), offset).reshape(shape)
        for name, (offset, shape, dtype) in record["arrays"].items()
    }


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[int, tuple[int, ...], str]] = {}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".packing-") as folder:
        fresh, record = Path(folder) / path.name, Path(folder) / "record"
        with fresh.open("wb") as file:
            for name, array in arrays.items():
                file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
                places[name] = (file.tell(), array.shape, str(array.dtype))
                file.write(np.ascontiguousarray(array).data)
        fresh.replace(path)
        with path.open("rb") as file:
            record.write_text(json.dumps({"state": _state(file.fileno()), "arrays": places}))
        record.replace(path.with_suffix(".json"))


def _state(handle: int) -> list[int]:
    status = os.fstat(handle)
    return [status.st_ino, status.st_size, status.st_mtime_ns]
