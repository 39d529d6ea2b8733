"""Voice activity options under the path that faster-whisper has them at."""

from __future__ import annotations

from max_whisper.transcribe.vad import VadOptions

__all__ = ["VadOptions"]
