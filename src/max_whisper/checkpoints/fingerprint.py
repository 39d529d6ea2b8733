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
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from max_whisper.errors import CheckpointError

# A file written again within the clock's resolution keeps its times, so none is trusted that was
# written less than this many nanoseconds ago.
_SETTLED = 2_000_000_000
_CHUNK = 1 << 20
_FORMAT = 1  # of the records: raised whenever the check of tensors becomes stricter


def hash_files(paths: Sequence[Path]) -> str:
    """The SHA-256 (hex) of the files read one after the other as one.

    Raises:
        CheckpointError: If one cannot be read.
    """
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    for path in paths:
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    digest.update(view[:count])
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error
    return digest.hexdigest()


class Records:
    """Remembered hashes, one small file each in a folder; losing them costs time alone."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made when the first record is written."""
        self._folder = folder

    def find(self, paths: Sequence[Path]) -> str | None:
        """The hash of these files as they are now, if it was remembered."""
        key = _key(paths)
        try:
            record = json.loads(self._path(paths).read_bytes())
            return str(record["sha256"]) if record["key"] == key else None
        except (OSError, ValueError, TypeError, KeyError):
            return None  # absent or damaged: it is computed again

    def remember(self, paths: Sequence[Path], key: str, sha256: str) -> None:
        """Keeps the hash of files whose :func:`state` was ``key`` before they were read.

        Nothing is kept of files that changed since, or that were written a moment ago. A folder
        that cannot be written is no error.
        """
        if key != _key(paths) or time.time_ns() - _written(paths) < _SETTLED:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(self._path(paths), json.dumps({"key": key, "sha256": sha256}).encode())

    def _path(self, paths: Sequence[Path]) -> Path:
        names = "\n".join(str(path.absolute()) for path in paths)
        return (
            self._folder / f"{hashlib.sha256(names.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
        )


def state(paths: Sequence[Path]) -> str:
    """What the file system says of the files: it differs once one of them has changed.

    Raises:
        CheckpointError: If one does not exist.
    """
    try:
        return _key(paths)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from error


def _key(paths: Sequence[Path]) -> str:
    stats = [path.stat() for path in paths]
    fields = [[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats]
    return json.dumps([_FORMAT, [str(path.absolute()) for path in paths], fields])


def _written(paths: Sequence[Path]) -> int:
    return max(max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths)


def _write_atomically(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
