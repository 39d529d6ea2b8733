"""OpenAI Whisper on MAX.

The names are openai-whisper's: ``import max_whisper as whisper`` and go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from max_whisper.audio import load_audio, log_mel_spectrogram, pad_or_trim
from max_whisper.checkpoints import available_models
from max_whisper.decoding import DecodingOptions, DecodingResult, decode, detect_language
from max_whisper.model import ModelDimensions, Whisper, load_model
from max_whisper.transcribe import transcribe
from max_whisper.version import __version__

if TYPE_CHECKING:
    from max_whisper.transcribe.live import StreamingTranscriber

__all__ = [
    "DecodingOptions",
    "DecodingResult",
    "ModelDimensions",
    "StreamingTranscriber",
    "Whisper",
    "__version__",
    "available_models",
    "decode",
    "detect_language",
    "load_audio",
    "load_model",
    "log_mel_spectrogram",
    "pad_or_trim",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    # Those who transcribe files need not wait for what streams need.
    if name == "StreamingTranscriber":
        from max_whisper.transcribe.live import StreamingTranscriber

        return StreamingTranscriber
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
