"""One checkpoint in the form that each engine reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from max_whisper.checkpoints.catalogue import find_model
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.resolve import cache_folder, find_local
from max_whisper.parity.ctranslate2_writer import write_directory
from max_whisper.parity.engine import tokenizer_of
from max_whisper.parity.measure import ParityError


def checkpoint_for(engine: str, checkpoint: Checkpoint, folder: Path) -> str:
    """What to call the checkpoint when asking an engine for it.

    Our own engines read the original. openai-whisper is given the canonical arrays in an
    ``.npz``, and faster-whisper a CTranslate2 directory, whatever file they came from.
    transformers is given the original, which must have its format.

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
        if not (folder / "ctranslate2").exists():
            tokenizer = tokenizer_of(checkpoint, None, "transcribe")
            write_directory(checkpoint, tokenizer, folder / "ctranslate2")
        return str(folder / "ctranslate2")
    if engine == "transformers":
        return _safetensors(checkpoint)
    return checkpoint.source


def _arrays(checkpoint: Checkpoint, path: Path) -> str:
    if not path.exists():
        dims = np.array(json.dumps(asdict(checkpoint.dims)))
        heads = np.array(checkpoint.alignment_heads or (), dtype=np.int64).reshape(-1, 2)
        extra = {"__dims__": dims, "__heads__": heads}
        np.savez(path, **{**checkpoint.tensors, **extra})  # type: ignore[arg-type]
    return str(path)


def _safetensors(checkpoint: Checkpoint) -> str:
    location = find_local(checkpoint.source, find_model(checkpoint.source), cache_folder())
    if location is not None and any(location.directory.glob("*.safetensors")):
        return str(location.directory)
    raise ParityError(
        f"transformers reads Hugging Face directories alone, and {checkpoint.source} is none; give one with "
        "--model"
    )
