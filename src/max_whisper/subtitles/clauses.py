"""Words in lines and subtitles that end where a reader would pause.

Every way to part the words has a price, and the cheapest is taken (as Knuth and Plass set
paragraphs): what a break costs where it is, what an uneven or hasty subtitle costs as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from max_whisper.subtitles.language import (
    CLAUSE_MARKS,
    CLOSING,
    NEVER_FIRST,
    OPENING,
    SENTENCE_MARKS,
    SMALL_WORDS,
    UNKNOWN,
    WIDE,
    WITHOUT_SPACES,
    SmallWords,
)
from max_whisper.subtitles.layout import SubtitleLayout
from max_whisper.subtitles.pace import reading_time

Word = Mapping[str, Any]

_WIDTH, _WIDE_WIDTH, _LINES = 42, 16, 2  # as Netflix has them

# What a break costs by where it is. The unit is arbitrary: only the order and the ratios matter.
_AFTER_SENTENCE, _AFTER_CLAUSE, _BEFORE_CONJUNCTION, _BEFORE_PREPOSITION = 0.0, 1.0, 2.0, 3.0
_ANYWHERE, _IN_NAME, _AFTER_CLINGING = 5.0, 8.0, 10.0
_DANGLING = 5.0  # more, where a clause has only one word on one side of the break
_LONG_PAUSE = 2.0  # seconds after which a subtitle always ends
_CUE = 2.0  # each subtitle: rather one of two lines than two of one
_INNER_SENTENCE = 1.0  # a sentence that ends inside a subtitle
_INNER_PAUSE = 2.0  # each second of silence inside a subtitle
_ORPHAN = 20.0  # a word alone on the screen, or in its line, that is not all that is said
_STUB, _STUB_LENGTH = 6.0, 12  # so few characters of a longer sentence
_UNEVEN_LINES = 4.0  # two lines of which one is empty
_EMPTY = 2.0  # a subtitle without text; half full is a quarter of it
_HASTE, _HASTY = 12.0, 4.0  # no time at all to read it; too little time at all


@dataclass(frozen=True)
class _Atom:
    """What no break may part: a word, mostly, with how good a break behind it is."""

    words: tuple[Word, ...]
    text: str
    start: float
    end: float
    after: float
    opens: bool
    closes: bool


def by_clauses(
    words: Sequence[Word],
    layout: SubtitleLayout,
    language: str | None = None,
    lead: int = 0,
    until: float | None = None,
) -> list[list[Word]]:
    """Sets words in subtitles: a list of words each, line breaks in front of some.

    Args:
        words: With times, in order, of one speaker.
        layout: Width and lines; what limits there are on time.
        language: A code; of the languages that are known here, the small words count too.
        lead: How many characters of the first line of each subtitle are taken.
        until: When something else appears behind the last of them, in seconds.
    """
    atoms = _atoms(words, language)
    setting = _Setting(atoms, layout, language, lead, math.inf if until is None else until)
    return [_broken(atoms[i:j], setting.lines(i, j)[1]) for i, j in setting.cues()]


def _broken(atoms: Sequence[_Atom], breaks: Sequence[int]) -> list[Word]:
    """The words of a subtitle, without spaces at the ends of its lines."""
    lines = [atoms[i:j] for i, j in zip([0, *breaks], [*breaks, len(atoms)])]
    out: list[Word] = []
    for number, line in enumerate(lines):
        words = [dict(word) for atom in line for word in atom.words]
        words[0]["word"] = ("\n" if number else "") + words[0]["word"].lstrip()
        words[-1]["word"] = words[-1]["word"].rstrip()
        out += words
    return out


class _Setting:
    """The ways to set some atoms, and their prices."""

    def __init__(
        self,
        atoms: Sequence[_Atom],
        layout: SubtitleLayout,
        language: str | None,
        lead: int,
        until: float,
    ) -> None:
        self._atoms = atoms
        self._layout = layout
        self._width = layout.max_line_width or (_WIDE_WIDTH if language in WIDE else _WIDTH)
        self._most_lines = layout.max_line_count or _LINES
        self._lead = lead
        self._starts = [*(atom.start for atom in atoms), until]
        # Lengths as differences of sums: that of atoms i to j without the space before the first.
        self._sums = [0]
        for atom in atoms:
            self._sums.append(self._sums[-1] + len(atom.text))
        self._spaces = [len(atom.text) - len(atom.text.lstrip()) for atom in atoms]

    def cues(self) -> list[tuple[int, int]]:
        """The cheapest way to part all atoms: (first, behind the last) of each subtitle."""
        count = len(self._atoms)
        best: list[tuple[float, int]] = [(0.0, 0)]
        for j in range(1, count + 1):
            ways = []
            for i in range(j - 1, -1, -1):
                price = self._cue(i, j)
                if price is None:
                    break  # what is too long stays so with more before it
                ways.append((best[i][0] + price, i))
            best.append(min(ways))
        bounds, j = [], count
        while j:
            bounds.append((best[j][1], j))
            j = best[j][1]
        return bounds[::-1]

    def _length(self, i: int, j: int) -> int:
        return self._sums[j] - self._sums[i] - self._spaces[i]

    def _cue(self, i: int, j: int) -> float | None:
        """What a subtitle costs, and the break behind it; None if it may not be."""
        atoms, layout = self._atoms[i:j], self._layout
        spoken = atoms[-1].end - atoms[0].start
        if j - i > 1 and (
            atoms[1].start - atoms[0].end > _LONG_PAUSE
            or spoken > (layout.max_cue_duration or math.inf)
            or j - i > (layout.max_words_per_line or math.inf)
        ):
            return None
        lines, _ = self.lines(i, j)
        if lines == math.inf:
            return None
        length = self._length(i, j) + self._lead
        price = _CUE + lines + self._behind(j) + self._haste(i, j, length)
        price += _EMPTY * (1 - min(1.0, length / (self._width * self._most_lines))) ** 2
        whole = atoms[0].opens and atoms[-1].closes
        if not whole and j - i == 1:
            price += _ORPHAN
        elif not whole and length < _STUB_LENGTH:
            price += _STUB
        for before, after in pairwise(atoms):
            price += _INNER_SENTENCE * before.closes + _INNER_PAUSE * max(0.0, after.start - before.end)
        return price

    def _behind(self, j: int) -> float:
        """What the break behind a subtitle costs; a pause makes up for much of it."""
        if j == len(self._atoms):
            return 0.0
        last = self._atoms[j - 1]
        return last.after * max(0.1, 1 - max(0.0, self._starts[j] - last.end))

    def _haste(self, i: int, j: int, length: int) -> float:
        needed = reading_time(length, self._layout)
        if not needed:
            return 0.0
        there = self._starts[j] - (self._layout.min_cue_gap or 0.0) - self._starts[i]
        there = max(0.0, min(there, self._layout.max_cue_duration or math.inf))
        return 0.0 if there >= needed else _HASTY + _HASTE * (needed - there) / needed

    def lines(self, i: int, j: int) -> tuple[float, tuple[int, ...]]:
        """The cheapest way to set a subtitle in the fewest lines: price, and where they begin.

        The price is infinite if they are more than there may be.
        """
        count = 1
        while count <= self._most_lines:
            price, breaks = self._in_lines(i, j, count, self._lead)
            if price < math.inf:
                return price, tuple(k - i for k in breaks)
            if self._length(i, j) > self._width * self._most_lines + self._most_lines:
                break
            count += 1
        return math.inf, ()

    def _in_lines(self, i: int, j: int, count: int, lead: int) -> tuple[float, tuple[int, ...]]:
        """The same in so many lines, the first of which has less room."""
        if count == 1:
            fits = self._length(i, j) + lead <= self._width or j - i == 1
            return (0.0 if fits else math.inf), ()
        best: tuple[float, tuple[int, ...]] = (math.inf, ())
        for k in range(i + 1, j):
            first = self._length(i, k) + lead
            if first > self._width and k - i > 1:
                break
            price, breaks = self._in_lines(k, j, count - 1, 0)
            rest = self._length(k, j) / (count - 1)
            price += self._atoms[k - 1].after + _UNEVEN_LINES * abs(first - rest) / max(first + rest, 1)
            price += _ORPHAN * (self._is_orphan(i, k) + (count == 2 and self._is_orphan(k, j)))
            if price < best[0]:
                best = price, (k, *breaks)
        return best

    def _is_orphan(self, i: int, j: int) -> bool:
        """Whether a line is one word of more."""
        return j - i == 1 and not (self._atoms[i].opens and self._atoms[i].closes)


def _atoms(words: Sequence[Word], language: str | None) -> list[_Atom]:
    """Words as what may be parted, and how good it is to do so."""
    spaced = language not in WITHOUT_SPACES
    groups: list[list[Word]] = []
    for word in words:
        if groups and _clings(groups[-1][-1]["word"], word["word"], spaced):
            groups[-1].append(word)
        else:
            groups.append([word])
    texts = ["".join(word["word"] for word in group).rstrip() for group in groups]
    prices = _prices(texts, SMALL_WORDS.get(language or "", UNKNOWN))
    ends = [price == _AFTER_SENTENCE for price in prices]
    return [
        _Atom(tuple(group), text, group[0]["start"], group[-1]["end"], price, opens, closes)
        for group, text, price, opens, closes in zip(groups, texts, prices, [True, *ends], ends)
    ]


def _prices(texts: Sequence[str], small: SmallWords) -> list[float]:
    """What a break behind each text costs."""
    prices: list[float] = []
    for text, following in zip(texts, [*texts[1:], ""]):
        opens = not prices or prices[-1] == _AFTER_SENTENCE
        prices.append(_price(text, following, small, opens))
    marked = [price <= _AFTER_CLAUSE for price in prices]
    beside = zip([False, *marked], [*marked[1:], False])
    return [
        price if mark or not any(near) else price + _DANGLING
        for price, mark, near in zip(prices, marked, beside)
    ]


def _clings(before: str, after: str, spaced: bool) -> bool:
    """Whether nothing may come between two words."""
    if not after.strip() or after.strip()[0] in NEVER_FIRST:
        return True
    if not spaced:
        return after.strip()[0] in SENTENCE_MARKS | CLAUSE_MARKS
    return not after[:1].isspace() and not before[-1:].isspace()


def _price(text: str, following: str, small: SmallWords, opens: bool) -> float:
    """What a break between two words costs."""
    bare = text.strip().rstrip(CLOSING)
    word = bare.lower().lstrip(OPENING)
    following = following.strip()
    if bare[-1:] in SENTENCE_MARKS and not _is_abbreviation(word, following, small):
        return _AFTER_SENTENCE
    if not following:
        return _AFTER_SENTENCE  # nothing more is said
    if bare[-1:] in CLAUSE_MARKS:
        return _AFTER_CLAUSE
    if word.rstrip(".") in small.clinging | small.prepositions | small.conjunctions:
        return _AFTER_CLINGING
    if small.capitals and not opens and bare[:1].isupper() and following[:1].isupper():
        return _IN_NAME
    coming = following.lower().lstrip(OPENING).rstrip(CLOSING + ",.:;!?")
    if coming in small.conjunctions:
        return _BEFORE_CONJUNCTION
    return _BEFORE_PREPOSITION if coming in small.prepositions else _ANYWHERE


def _is_abbreviation(word: str, following: str, small: SmallWords) -> bool:
    """Whether a full stop ends no sentence: of a known abbreviation, an initial, or a small letter on."""
    if not word.endswith("."):
        return False
    stem = word.rstrip(".")
    return stem in small.abbreviations or (len(stem) == 1 and stem.isalpha()) or following[:1].islower()
