"""The Hugging Face hub: only what a checkpoint needs of a repository, through ``huggingface_hub``.

The library is imported when something has to be fetched, never to open what is here already.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from max_whisper.checkpoints.progress import Progress
from max_whisper.errors import CheckpointError

TOKENIZER_FILES = ("vocab.json", "added_tokens.json", "tokenizer.json", "vocabulary.txt", "vocabulary.json")
WEIGHT_PATTERNS = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    "model.bin",  # CTranslate2's
    *TOKENIZER_FILES,
)


def fetch(
    repository: str,
    patterns: tuple[str, ...],
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Brings the files of a repository that match, and returns the folder that holds them.

    Args:
        repository: ``organisation/name``.
        patterns: File names, with wildcards.
        folder: Where to put them, or None for the hub's own cache.
        progress: Told of the bytes that arrive.

    Raises:
        CheckpointError: If the repository cannot be reached, or is not there.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                allow_patterns=list(patterns),
                local_dir=folder,
                tqdm_class=_reporter(repository, progress),
            )
        )
    except Exception as error:  # the library, its transport and the disk each have their own
        lines = str(error).strip().splitlines()
        raise CheckpointError(
            f"cannot fetch {repository} from the hub: {lines[0] if lines else error!r}"
        ) from error


def _reporter(repository: str, progress: Progress | None) -> Any:
    """A progress bar, as ``huggingface_hub`` wants one, that draws nothing and tells ``progress``."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # documented, not in __all__

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the library's bars, one counts bytes written; others count files or packets.
            self._counts = kwargs.get("unit") == "B" and not str(kwargs.get("name")).endswith(".transfer")
            self._done = 0  # the bar's own count stands still where bars are switched off
            super().__init__(*args, **kwargs | {"file": io.StringIO()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> Any:
            self._done += int(n or 0)
            if self._counts and progress is not None:
                progress(repository, self._done, int(self.total) if self.total else None)
            return super().update(n)

    return Reporter
