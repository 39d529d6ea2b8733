"""The hash of a checkpoint's files, computed once and remembered.

What is remembered is keyed on everything that the file system says of the files (path, size,
inode, times of change), so that a changed file is read again. A record also says that the tensors
were checked: whoever finds one need not read the weights to know that they are sound.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from max_whisper.checkpoints.cache import write_atomically
from max_whisper.checkpoints.files import MappedFile

# A file written again within the clock's resolution keeps its times, so none is trusted that was
# written less than this many nanoseconds ago.
_SETTLED = 2_000_000_000
_CHECKS = 1  # raised whenever the checks of tensors become stricter, so that old records expire


def hash_files(files: Sequence[MappedFile]) -> str:
    """The SHA-256 (hex) of the files read one after the other as one."""
    digest = hashlib.sha256()
    for file in files:
        file.add_to(digest)
    return digest.hexdigest()


class Records:
    """Remembered hashes, a small file each in one folder; losing them costs time alone."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made when the first record is written."""
        self._folder = folder

    def find(self, files: Sequence[MappedFile]) -> str | None:
        """The hash of these files as they are now, if it was remembered."""
        try:
            record = json.loads(self._path(files).read_bytes())
            return str(record["sha256"]) if record["key"] == _key(files) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None  # absent or damaged: it is computed again

    def remember(self, files: Sequence[MappedFile], sha256: str) -> None:
        """Keeps the hash of files whose tensors were found sound.

        Nothing is kept of files written a moment ago. A folder that cannot be written is no error.
        """
        if time.time_ns() - max(file.changed for file in files) < _SETTLED:
            return
        content = json.dumps({"key": _key(files), "sha256": sha256})
        with contextlib.suppress(OSError):
            write_atomically(self._path(files), content.encode())

    def _path(self, files: Sequence[MappedFile]) -> Path:
        names = "\n".join(str(path) for file in files for path in file.paths)
        digest = hashlib.sha256(os.fsencode(names)).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _key(files: Sequence[MappedFile]) -> list[object]:
    return [_CHECKS, *(file.state for file in files)]
