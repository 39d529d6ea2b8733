"""How subtitles are to look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from max_whisper.errors import OptionError


@dataclass(frozen=True)
class SubtitleLayout:
    """How words are set in subtitles.

    The first four are openai-whisper's and have no effect on a result without word times; the
    others refuse one.

    Attributes:
        max_line_width: Characters a line.
        max_line_count: Lines a subtitle. With a width as well, subtitles run on over the ends of
            segments; otherwise each segment starts a new one.
        max_words_per_line: Words a subtitle, where ``max_line_width`` is not given, or where
            ``break_at_clauses`` is.
        highlight_words: One cue a word, which is underlined in it.
        break_at_clauses: Lines and subtitles end where a reader would pause, rather than where
            they are full. Without a width they have 42 characters (16 in Chinese, Japanese and
            Korean, whose characters are twice as wide), without a count two lines.
        max_chars_per_second: Subtitles that are faster to read stay longer, as far as there is
            time before the next one. Spaces and the speaker's name count.
        min_cue_duration: Seconds that a subtitle stays at least, if there is time.
        max_cue_duration: Seconds that a subtitle stays at most; longer ones become several.
        min_cue_gap: Seconds without a subtitle between two of them, taken from the first one's end.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False
    break_at_clauses: bool = False
    max_chars_per_second: float | None = None
    min_cue_duration: float | None = None
    max_cue_duration: float | None = None
    min_cue_gap: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SubtitleLayout:
        """The layout in a mapping of options; others are left alone, 0 counts as no limit.

        Raises:
            OptionError: A limit is negative or no number, or two contradict each other.
        """
        chosen = {field.name: options[field.name] for field in fields(cls) if options.get(field.name)}
        for name, value in chosen.items():
            if not 0 <= value < math.inf:
                raise OptionError(f"{name} cannot be negative or endless, and is {value}")
        layout = cls(**chosen)
        shortest, longest = layout.min_cue_duration or 0, layout.max_cue_duration or math.inf
        if shortest > longest:
            raise OptionError(f"min_cue_duration {shortest} is above max_cue_duration {longest}")
        return layout

    @property
    def is_paced(self) -> bool:
        """Whether the times of cues have to keep to limits."""
        limits = self.max_chars_per_second, self.min_cue_duration, self.max_cue_duration, self.min_cue_gap
        return any(limit is not None for limit in limits)

    @property
    def needs_words(self) -> bool:
        """Whether it refuses a result without word times."""
        return self.break_at_clauses or self.is_paced
