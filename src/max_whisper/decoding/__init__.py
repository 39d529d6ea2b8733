"""One 30-second window: from encoded audio to tokens."""

from __future__ import annotations

from max_whisper.decoding.options import DecodingOptions, DecodingResult

__all__ = ["DecodingOptions", "DecodingResult"]
