"""Whole recordings.

``transcribe`` is here because openai-whisper has it here; a model does it itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from max_whisper.model import Audio, Whisper

__all__ = ["transcribe"]


def transcribe(
    model: Whisper, audio: Audio, *, verbose: bool | None = None, **options: Any
) -> dict[str, Any]:
    """Transcribes a recording: see :meth:`max_whisper.Whisper.transcribe`."""
    return model.transcribe(audio, verbose=verbose, **options)
