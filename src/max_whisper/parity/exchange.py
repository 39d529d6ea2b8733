"""One checkpoint in the form that each engine reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from max_whisper.checkpoints import cache_folder
from max_whisper.checkpoints.catalogue import find_model
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.resolve import find_local
from max_whisper.parity import ctranslate2_writer, huggingface_writer
from max_whisper.parity.engine import tokenizer_of
from max_whisper.tokenizer import Tokenizer


def checkpoint_for(engine: str, checkpoint: Checkpoint, folder: Path) -> str:
    """What to call the checkpoint when asking an engine for it.

    Our own engines read the original. openai-whisper is given the canonical arrays in an
    ``.npz``, faster-whisper a CTranslate2 directory and transformers a Hugging Face one, whatever
    file they came from; an original in that last format is given as it is.

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
        return _written(checkpoint, ctranslate2_writer.write_directory, folder / "ctranslate2")
    if engine == "transformers":
        original = _safetensors(checkpoint)
        return original or _written(checkpoint, huggingface_writer.write_directory, folder / "huggingface")
    return checkpoint.source


def _arrays(checkpoint: Checkpoint, path: Path) -> str:
    if not path.exists():
        dims = np.array(json.dumps(asdict(checkpoint.dims)))
        heads = np.array(checkpoint.alignment_heads or (), dtype=np.int64).reshape(-1, 2)
        extra = {"__dims__": dims, "__heads__": heads}
        np.savez(path, **{**checkpoint.tensors, **extra})  # type: ignore[arg-type]
    return str(path)


def _written(
    checkpoint: Checkpoint, write: Callable[[Checkpoint, Tokenizer, Path], None], folder: Path
) -> str:
    if not folder.exists():
        write(checkpoint, tokenizer_of(checkpoint, None, "transcribe"), folder)
    return str(folder)


def _safetensors(checkpoint: Checkpoint) -> str | None:
    location = find_local(checkpoint.source, find_model(checkpoint.source), cache_folder())
    if location is not None and any(location.directory.glob("*.safetensors")):
        return str(location.directory)
    return None
