"""A text that is known beforehand, as the words and sentences that alignment places in a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from max_whisper.errors import OptionError
from max_whisper.transcribe.words import SENTENCE_END_MARKS

if TYPE_CHECKING:
    from max_whisper.tokenizer import Tokenizer

_CLOSING = "\"'”’»)]」』"
_SHOWN = 30


@dataclass(frozen=True)
class TextWord:
    """A word, or a mark between words.

    Attributes:
        word: Its text, with the space before it.
        tokens: Its tokens.
        closes: Whether a sentence (or a line, if the lines of the text are kept) ends with it.
    """

    word: str
    tokens: tuple[int, ...]
    closes: bool = False


def words_of(text: str, tokenizer: Tokenizer, most: int, original_split: bool = False) -> list[TextWord]:
    """The words of a text in order.

    Args:
        text: White space of any kind separates words; what looks like a special token is text.
        tokenizer: Of the text's language.
        most: How many tokens a word may have.
        original_split: Whether the lines of the text are kept in place of its sentences.

    Raises:
        OptionError: There is no word in it, or one that no window has room for.
    """
    lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
    if not lines:
        raise OptionError("the text is empty: there is nothing to align")
    spaced = tokenizer.writes_spaces
    if not original_split:
        lines = [(" " if spaced else "").join(lines)]
    words: list[TextWord] = []
    for line in lines:
        found = _words_of_line((" " if spaced else "") + line, tokenizer)
        words += [*found[:-1], replace(found[-1], closes=True)] if original_split else _with_sentences(found)
    for word in words:
        if len(word.tokens) > most:
            shown = word.word.strip()[:_SHOWN]
            raise OptionError(
                f"the word {shown!r}... has {len(word.tokens)} tokens, and a window has room for {most}: "
                "separate words by spaces"
            )
    return words


def _words_of_line(line: str, tokenizer: Tokenizer) -> list[TextWord]:
    tokens = tokenizer.encode(line, disallowed_special=())
    return [TextWord(word, tuple(ids)) for word, ids in zip(*tokenizer.split_to_word_tokens(tokens))]


def _with_sentences(words: Sequence[TextWord]) -> list[TextWord]:
    """The same words; those after which a sentence ends say so."""
    following = [*(word.word for word in words[1:]), ""]
    return [replace(word, closes=_closes(word.word, after)) for word, after in zip(words, following)]


def _closes(word: str, after: str) -> bool:
    """Whether a sentence ends between a word and the next one: not so in "3.5", "U.S." or "etc. and"."""
    mark = word.rstrip().rstrip(_CLOSING)[-1:]
    if not mark or mark not in SENTENCE_END_MARKS:
        return False
    if mark.isascii():
        return after == "" or (after.startswith(" ") and not after.lstrip()[:1].islower())
    return after not in (*SENTENCE_END_MARKS, *_CLOSING)
