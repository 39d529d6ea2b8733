"""OpenAI Whisper on MAX.

The names are openai-whisper's: ``import max_whisper as whisper`` and go on.
"""

from __future__ import annotations

from max_whisper.audio import load_audio, log_mel_spectrogram, pad_or_trim
from max_whisper.checkpoints import available_models
from max_whisper.decoding import DecodingOptions, DecodingResult, decode, detect_language
from max_whisper.model import ModelDimensions, Whisper, load_model
from max_whisper.transcribe import transcribe
from max_whisper.transcribe.live import StreamingTranscriber
from max_whisper.version import __version__

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
