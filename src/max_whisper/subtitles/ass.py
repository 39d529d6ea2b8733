"""Advanced SubStation Alpha: subtitles with words that are sung along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from max_whisper.subtitles.cues import Cue

# The resolution is what sizes and margins refer to; players scale it to the picture. Words that
# are not yet said have the secondary colour. Colours are &HAABBGGRR, AA 0 being opaque.
_HEAD = """\
[Script Info]
ScriptType: v4.00+
WrapStyle: 0
ScaledBorderAndShadow: yes
YCbCr Matrix: None
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
Style: Default,Arial,64,&H00FFFFFF,&H00A0A0A0,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,60,60,50,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def to_ass(cues: Sequence[Cue]) -> str:
    r"""Subtitles with a ``\k`` tag a word, which says how long it takes; without word times, none.

    With a word marked, it is underlined instead.
    """
    return _HEAD + "".join(
        f"Dialogue: 0,{_clock(start)},{_clock(end)},Default,{_name(cue)},0,0,0,,{_text(cue, start)}\n"
        for cue in cues
        for start, end in [(_hundredths(cue.start), _hundredths(cue.end))]
    )


def _hundredths(seconds: float) -> int:
    return round(seconds * 100)


def _clock(hundredths: int) -> str:
    """``h:mm:ss.cc``."""
    seconds, rest = divmod(hundredths, 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}.{rest:02d}"


def _name(cue: Cue) -> str:
    # The fields of a line end with commas.
    return (cue.speaker or "").replace(",", ";")


def _text(cue: Cue, start: int) -> str:
    label = _escaped(cue.label)
    if not cue.words:
        return label + _escaped(cue.plain)
    return label + "".join(_sung(cue, start) if cue.marked is None else _underlined(cue))


def _sung(cue: Cue, start: int) -> Iterator[str]:
    """Each word behind how long it takes, and silence before it as a syllable without text."""
    at = start
    for word in cue.words:
        # Times are rounded before they are subtracted, so that no error adds up.
        begins, ends = (max(at, _hundredths(word[key])) for key in ("start", "end"))
        space, text = _parted(word["word"])
        silence = rf"{{\k{begins - at}}}" if begins > at else ""
        yield rf"{space}{silence}{{\k{ends - begins}}}{text}"
        at = ends


def _underlined(cue: Cue) -> Iterator[str]:
    for index, word in enumerate(cue.words):
        space, text = _parted(word["word"])
        yield space + (rf"{{\u1}}{text}{{\u0}}" if index == cue.marked else text)


def _parted(word: str) -> tuple[str, str]:
    """What stands before a word, and the word."""
    text = word.lstrip()
    return _escaped(word[: len(word) - len(text)]), _escaped(text)


def _escaped(text: str) -> str:
    r"""Text without what would be a tag; a backslash is kept from its letter by a joiner (U+2060)."""
    text = text.replace("\\", "\\\u2060").replace("{", r"\{").replace("}", r"\}")
    return text.replace("\n", r"\N")
