"""Real checkpoints, loaded once; where the weights are missing, these tests fail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint, load_checkpoint

DATA = Path(__file__).resolve().parent.parent / "data"
MODELS = ("tiny.en", "base")


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Checkpoint]:
    """A checkpoint by its name."""
    return functools.cache(load_checkpoint)


@pytest.fixture(scope="session")
def model() -> Callable[[str], Any]:
    """A model that transcribes, by its checkpoint's name."""
    import max_whisper

    return functools.cache(max_whisper.load_model)


@pytest.fixture(scope="session")
def first_window() -> np.ndarray:
    """The log-mel (80, 3000) of jfk.flac, as transcription sees it."""
    from max_whisper.audio import load_audio
    from max_whisper.parity import engine

    return engine.first_window(load_audio(str(DATA / "jfk.flac")), 80)
