"""Names of faster-whisper over this package's engine, for programs that were written for it.

    from max_whisper.faster_whisper import BatchedInferencePipeline, WhisperModel

Parameters, defaults and results are those of faster-whisper 1.2.1. What it takes and ignores is
heeded here; what is not here is an error. docs/library.md has the differences.
"""

from __future__ import annotations

from max_whisper.checkpoints import available_models
from max_whisper.faster_whisper.audio import decode_audio
from max_whisper.faster_whisper.transcribe import BatchedInferencePipeline, WhisperModel
from max_whisper.version import __version__
from max_whisper.writers import format_timestamp

__all__ = [
    "BatchedInferencePipeline",
    "WhisperModel",
    "__version__",
    "available_models",
    "decode_audio",
    "format_timestamp",
]
