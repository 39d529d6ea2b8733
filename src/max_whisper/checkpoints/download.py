"""One file from a URL: resumable, verified, safe beside other processes that want the same."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from max_whisper.checkpoints.progress import Progress
from max_whisper.errors import CheckpointError

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 3  # in a row that bring nothing new
_UNSATISFIABLE = 416


class _InterruptedTransferError(Exception):
    """The connection ended before the file did."""


def download(url: str, target: Path, sha256: str, progress: Progress | None = None) -> None:
    """Brings ``url`` to ``target``, which appears complete and verified or not at all.

    What has arrived is kept in ``target`` + ``.part`` and is gone on from, in this call and in the
    next. Another process that downloads the same file is waited for.

    Raises:
        CheckpointError: If the network, the disk or the hash fails, with what can be done.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(target.name + ".lock")):
            if not target.exists():  # another process may have brought it meanwhile
                _complete(url, part, sha256, progress)
                part.replace(target)
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"cannot download {url}: the server says {error.code} {error.reason}"
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise CheckpointError(f"cannot download {url}: {reason}{_kept(part)}") from error
    except _InterruptedTransferError as error:
        raise CheckpointError(f"cannot download {url}: {error}{_kept(part)}") from error
    except OSError as error:
        raise CheckpointError(
            f"cannot write {error.filename or part}: {error.strerror}{_kept(part)}"
        ) from error


def _kept(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return f"; the first {size} bytes are kept in {part}: run it again to go on from there" if size else ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _complete(url: str, part: Path, sha256: str, progress: Progress | None) -> None:
    """Fills ``part`` until it has the hash; what was resumed wrongly is fetched once more."""
    for resumed in (True, False):
        resumed = resumed and part.exists()
        if not resumed:
            part.unlink(missing_ok=True)
        _fetch(url, part, progress)
        found = _hash(part)
        if found == sha256:
            return
        if not resumed:
            part.unlink()
            raise CheckpointError(
                f"{url} has sha256 {found}, not {sha256}: it was damaged on the way; try again"
            )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Requests what is missing until nothing is, or until several requests bring nothing."""
    fruitless = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            with part.open("ab", buffering=0) as file:
                _request(url, file, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code != _UNSATISFIABLE or not before:
                raise
            return  # nothing is missing; the hash tells whether it is the right file
        except (
            urllib.error.URLError,
            TimeoutError,
            ConnectionError,
            http.client.HTTPException,
            _InterruptedTransferError,
        ):
            fruitless = 0 if part.stat().st_size > before else fruitless + 1
            if fruitless == _ATTEMPTS or not part.stat().st_size:
                raise


def _request(url: str, file: BinaryIO, progress: Progress | None) -> None:
    start = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(url, headers={"User-Agent": "max-whisper"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if start and not _continues(response, start):
            file.truncate(0)
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        done = start
        name = url.rpartition("/")[2]
        while chunk := response.read(_CHUNK):
            _write(file, chunk)
            done += len(chunk)
            if progress is not None:
                progress(name, done, total)
        if total is not None and done < total:
            raise _InterruptedTransferError(f"the connection ended after {done} of {total} bytes")


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    stated = response.headers.get("Content-Range", "")
    return response.status == http.client.PARTIAL_CONTENT and stated.startswith(f"bytes {start}-")


def _write(file: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:  # a nearly full disk takes a part before it refuses
        view = view[file.write(view) :]
