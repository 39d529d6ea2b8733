"""One 30-second window: from encoded audio to tokens.

``decode`` and ``detect_language`` are here because openai-whisper has them here; a model does both
itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from max_whisper.decoding.options import DecodingOptions, DecodingResult

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from max_whisper.model import Whisper
    from max_whisper.tokenizer import Tokenizer

__all__ = ["DecodingOptions", "DecodingResult", "decode", "detect_language"]


def decode(
    model: Whisper, mel: ArrayLike, options: DecodingOptions | None = None, **changes: Any
) -> DecodingResult | list[DecodingResult]:
    """Decodes windows: see :meth:`max_whisper.Whisper.decode`."""
    return model.decode(mel, options, **changes)


def detect_language(model: Whisper, mel: ArrayLike, tokenizer: Tokenizer | None = None) -> tuple[Any, Any]:
    """Tells what language is spoken: see :meth:`max_whisper.Whisper.detect_language`."""
    return model.detect_language(mel, tokenizer)
