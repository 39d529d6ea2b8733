"""From a transcript to cues: what is on the screen at once, in which lines, and for how long.

Files are made of cues by :mod:`max_whisper.writers`.
"""

from __future__ import annotations

from max_whisper.subtitles.cues import Cue, highlighted, labelled, missed_limits, subtitle_cues
from max_whisper.subtitles.layout import SubtitleLayout

__all__ = ["Cue", "SubtitleLayout", "highlighted", "labelled", "missed_limits", "subtitle_cues"]
