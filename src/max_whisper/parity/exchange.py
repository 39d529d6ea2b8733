"""One checkpoint in the form that each engine reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from max_whisper.checkpoints.catalogue import find_model
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.resolve import Location, cache_folder, find_local
from max_whisper.parity.measure import ParityError


def checkpoint_for(engine: str, checkpoint: Checkpoint, folder: Path) -> str:
    """What to call the checkpoint when asking an engine for it.

    Our own engines read the original. openai-whisper is given the canonical arrays in an
    ``.npz``, whatever file they came from. The other two read one format each, and are given
    the original if it has that format.

    Args:
        engine: The backend's name.
        checkpoint: The checkpoint.
        folder: Where to write.

    Raises:
        ParityError: If the engine reads no file that this checkpoint has.
    """
    if engine.startswith("openai-"):
        return _arrays(checkpoint, folder / "checkpoint.npz")
    if engine == "faster-whisper":
        return _directory(checkpoint, folder / "ctranslate2", "model.bin", "CTranslate2")
    if engine == "transformers":
        return _directory(checkpoint, folder / "safetensors", "model.safetensors", "Hugging Face's")
    return checkpoint.source


def _arrays(checkpoint: Checkpoint, path: Path) -> str:
    if not path.exists():
        dims = np.array(json.dumps(asdict(checkpoint.dims)))
        np.savez(path, **{**checkpoint.tensors, "__dims__": dims})  # type: ignore[arg-type]
    return str(path)


def _directory(checkpoint: Checkpoint, folder: Path, weights: str, format_name: str) -> str:
    """The checkpoint's own directory, its weights joined if they come in parts."""
    if folder.exists():
        return str(folder)
    location = find_local(checkpoint.source, find_model(checkpoint.source), cache_folder())
    if location is None:
        raise ParityError(f"{checkpoint.source} is not on this machine any more")
    if location.files[0].is_dir():
        if (location.files[0] / weights).exists():
            return str(location.files[0])
    elif location.files[0].name.startswith(weights):
        return _joined(location, folder, weights)
    raise ParityError(
        f"this engine reads checkpoints in {format_name} format, which {checkpoint.source} is not; give "
        f"one that is with --model"
    )


def _joined(location: Location, folder: Path, weights: str) -> str:
    folder.mkdir()
    with (folder / weights).open("wb") as out:
        for part in location.files:
            with part.open("rb") as stored:
                shutil.copyfileobj(stored, out)
    for file in location.directory.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copy(file, folder)
    return str(folder)
