"""Live transcription: samples in pieces, words as soon as they are agreed upon."""

from __future__ import annotations

from max_whisper.transcribe.live.events import Agreed, LiveEvent, Tail
from max_whisper.transcribe.live.transcriber import StreamingTranscriber

__all__ = ["Agreed", "LiveEvent", "StreamingTranscriber", "Tail"]
