"""Where files are kept that are made or fetched once, and how they are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(download_root: str | os.PathLike[str] | None = None) -> Path:
    """Where is kept what is fetched or made once: downloads, hashes, vocabularies, graphs, packed weights.

    ``download_root`` if given, else ``$MAX_WHISPER_CACHE``, else ``$XDG_CACHE_HOME/max-whisper``,
    else ``~/.cache/max-whisper``.
    """
    if download_root is not None:
        return Path(download_root).expanduser()
    if own := os.environ.get("MAX_WHISPER_CACHE"):
        return Path(own).expanduser()
    return user_cache() / "max-whisper"


def user_cache() -> Path:
    """``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file such that whoever opens it finds all of it, or what was there before.

    Its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
