"""Text to token ids and back: byte-pair ranks, special tokens, languages.

The ranks come with a checkpoint; the special tokens follow them in an order that never changed
(`<|endoftext|>`, `<|startoftranscript|>`, languages, tasks, ..., timestamps). The public names are
openai-whisper's. Decoding text needs a table of bytes alone, so tiktoken is loaded only when text
other than a sign or two is encoded.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from max_whisper.errors import OptionError, TokenizerError

if TYPE_CHECKING:
    import tiktoken

# Codes and English names in the order of their tokens (openai-whisper, tokenizer.LANGUAGES);
# the last one exists from large-v3 on.
LANGUAGES: dict[str, str] = dict(
    entry.split(":")
    for entry in """
    en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese
    tr:turkish pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi
    fi:finnish vi:vietnamese he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish
    hu:hungarian ta:tamil no:norwegian th:thai ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin
    mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian lv:latvian bn:bengali sr:serbian
    az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque is:icelandic
    hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi
    pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian
    be:belarusian tg:tajik sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese
    ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish my:myanmar
    bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian ln:lingala ha:hausa ba:bashkir
    jw:javanese su:sundanese yue:cantonese
    """.replace("\n", " ").split()
)
LANGUAGES["ht"] = "haitian creole"

TO_LANGUAGE_CODE: dict[str, str] = {name: code for code, name in LANGUAGES.items()} | {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
}

TASKS = ("transcribe", "translate")

_CONTROLS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
_TIMESTAMPS = 1501  # 0.00 s to 30.00 s in steps of 0.02 s
_ENGLISH_RANKS, _MULTILINGUAL_RANKS = 50256, 50257
_WITHOUT_SPACES = {"zh", "ja", "th", "lo", "my", "yue"}

# GPT-2's splitting of text into pieces; byte pairs are merged within a piece alone.
_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# Texts that are surely one such piece.
_ONE_PIECE = re.compile(r" ?(?:[^\s\w]|_){1,8}| ")

# What a model writes for sounds that are not speech: brackets, notes, speaker marks.
_SIGNS = list('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
_SIGN_GROUPS = ["<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"]
_SIGN_GROUPS += ["[[", "]]", "{{", "}}", "♪♪", "♪♪♪"]
# Where these take several tokens the first one is shared among them and stands for nothing else.
_NOTES = list("♩♪♫♬♭♮♯")


class Vocabulary:
    """A model's tokens, whatever the language and task.

    Attributes:
        ranks: Bytes of the ordinary tokens -> id, in order; a token's id is its merge rank.
        num_languages: How many language tokens there are.
        special_tokens: Text of the special tokens -> id, in order of id.
        n_vocab: The number of all tokens.
    """

    def __init__(self, ranks: Mapping[bytes, int], num_languages: int = 99) -> None:
        """Raises :class:`TokenizerError` if the ranks are not Whisper's in number."""
        if not 0 < num_languages <= len(LANGUAGES):
            raise TokenizerError(f"Whisper knows 1 to {len(LANGUAGES)} languages, not {num_languages}")
        self.ranks = ranks
        self.num_languages = num_languages
        names = [
            "<|endoftext|>",
            "<|startoftranscript|>",
            *(f"<|{code}|>" for code in list(LANGUAGES)[:num_languages]),
            *(f"<|{name}|>" for name in _CONTROLS),
            *(f"<|{step * 0.02:.2f}|>" for step in range(_TIMESTAMPS)),
        ]
        self.special_tokens = {name: len(ranks) + index for index, name in enumerate(names)}
        self.n_vocab = len(ranks) + len(names)

    @property
    def multilingual(self) -> bool:
        """Whether this is the vocabulary of the models that are not ``.en``."""
        return len(self.ranks) != _ENGLISH_RANKS

    @cached_property
    def encoding(self) -> tiktoken.Encoding:
        """The vocabulary as a tiktoken encoding (0.1 s to make; kept)."""
        import tiktoken

        return tiktoken.Encoding(
            name="multilingual" if self.multilingual else "gpt2",
            explicit_n_vocab=self.n_vocab,
            pat_str=_PIECES,
            mergeable_ranks=dict(self.ranks.items()),
            special_tokens=self.special_tokens,
        )

    @cached_property
    def _bytes(self) -> list[bytes]:
        if list(self.ranks.values()) != list(range(len(self.ranks))):
            raise TokenizerError("the vocabulary is damaged: its ids are not 0, 1, 2 and so on, in order")
        return [*self.ranks, *(name.encode() for name in self.special_tokens)]

    def encode(self, text: str, **options: Any) -> list[int]:
        """Text -> ids; ``options`` are those of :meth:`tiktoken.Encoding.encode`."""
        if not options and _ONE_PIECE.fullmatch(text):
            return self._merge(text.encode())
        return self.encoding.encode(text, **options)

    def _merge(self, piece: bytes) -> list[int]:
        """Byte-pair encoding of one short piece: joins the pair of lowest rank until none is left."""
        parts = [piece[i : i + 1] for i in range(len(piece))]
        while True:
            pairs = [self.ranks.get(left + right, self.n_vocab) for left, right in pairwise(parts)]
            best = min(pairs, default=self.n_vocab)
            if best == self.n_vocab:
                return [self.ranks[part] for part in parts]
            at = pairs.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]

    def decode(self, tokens: Iterable[int], errors: str = "replace") -> str:
        """Ids -> text; bytes that are not UTF-8 become U+FFFD.

        Raises:
            KeyError: An id is not in the vocabulary.
        """
        table = self._bytes
        try:
            raw = b"".join([table[token] for token in tokens if _in_range(token, len(table))])
        except (TypeError, IndexError) as error:
            raise KeyError(f"not token ids: {tokens!r}") from error
        return raw.decode("utf-8", errors)

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Ids that begin annotations of sounds; see :attr:`Tokenizer.non_speech_tokens`."""
        # A hyphen or an apostrophe is fine inside a word, but not as the start of one.
        found = {self.encode(" -")[0], self.encode(" '")[0]}
        for sign in [*_SIGNS, *_SIGN_GROUPS, *_NOTES]:
            for ids in (self.encode(sign), self.encode(" " + sign)):
                if len(ids) == 1 or sign in _NOTES:
                    found.add(ids[0])
        return tuple(sorted(found))


def _in_range(token: int, size: int) -> bool:
    if not 0 <= token < size:
        raise KeyError(f"token {token} is not in the vocabulary of {size}")
    return True


class Tokenizer:
    """A vocabulary with the language and task that a transcript is to be in.

    Attributes:
        vocabulary: The tokens.
        language: A code of :data:`LANGUAGES`, or None.
        task: ``transcribe``, ``translate`` or None.
        sot_sequence: The ids that every transcript starts with.
    """

    def __init__(self, vocabulary: Vocabulary, language: str | None = None, task: str | None = None) -> None:
        """Raises :class:`OptionError` if the model has no token for the language or task."""
        if task is not None and task not in TASKS:
            raise OptionError(f"unknown task {task!r}; choose from {', '.join(TASKS)}")
        self.vocabulary = vocabulary
        self.language = language
        self.task = task
        self.special_tokens = vocabulary.special_tokens
        sequence = [self.sot]
        if language is not None:
            sequence.append(self.language_token)
        if task is not None:
            sequence.append(self.transcribe if task == "transcribe" else self.translate)
        self.sot_sequence = tuple(sequence)

    @property
    def encoding(self) -> tiktoken.Encoding:
        """The tiktoken encoding behind this tokenizer."""
        return self.vocabulary.encoding

    @property
    def num_languages(self) -> int:
        """How many languages the model knows."""
        return self.vocabulary.num_languages

    def encode(self, text: str, **options: Any) -> list[int]:
        """Text -> ids; ``options`` are those of :meth:`tiktoken.Encoding.encode`."""
        return self.vocabulary.encode(text, **options)

    def decode(self, token_ids: Iterable[int], errors: str = "replace") -> str:
        """Ids -> text, without timestamps."""
        return self.vocabulary.decode([i for i in token_ids if i < self.timestamp_begin], errors)

    def decode_with_timestamps(self, token_ids: Iterable[int], errors: str = "replace") -> str:
        """Ids -> text with timestamps written as ``<|1.08|>``."""
        return self.vocabulary.decode(token_ids, errors)

    @property
    def eot(self) -> int:
        """``<|endoftext|>``."""
        return self.special_tokens["<|endoftext|>"]

    @property
    def sot(self) -> int:
        """``<|startoftranscript|>``."""
        return self.special_tokens["<|startoftranscript|>"]

    @property
    def translate(self) -> int:
        """``<|translate|>``."""
        return self.special_tokens["<|translate|>"]

    @property
    def transcribe(self) -> int:
        """``<|transcribe|>``."""
        return self.special_tokens["<|transcribe|>"]

    @property
    def sot_lm(self) -> int:
        """``<|startoflm|>``."""
        return self.special_tokens["<|startoflm|>"]

    @property
    def sot_prev(self) -> int:
        """``<|startofprev|>``."""
        return self.special_tokens["<|startofprev|>"]

    @property
    def no_speech(self) -> int:
        """``<|nospeech|>``."""
        return self.special_tokens["<|nospeech|>"]

    @property
    def no_timestamps(self) -> int:
        """``<|notimestamps|>``."""
        return self.special_tokens["<|notimestamps|>"]

    @property
    def timestamp_begin(self) -> int:
        """``<|0.00|>``, the first of the timestamps, which are the last of all tokens."""
        return self.special_tokens["<|0.00|>"]

    @property
    def language_token(self) -> int:
        """The token of :attr:`language`; ``ValueError`` without one."""
        if self.language is None:
            raise ValueError("this tokenizer was made without a language")
        try:
            return self.to_language_token(self.language)
        except KeyError:
            raise OptionError(
                f"this model does not know {LANGUAGES.get(self.language, self.language)!r}: "
                f"it has the first {self.num_languages} languages only"
            ) from None

    def to_language_token(self, language: str) -> int:
        """Language code -> id; ``KeyError`` if the model has no such language."""
        if language not in LANGUAGES or f"<|{language}|>" not in self.special_tokens:
            raise KeyError(f"no token for the language {language!r}")
        return self.special_tokens[f"<|{language}|>"]

    @property
    def all_language_tokens(self) -> tuple[int, ...]:
        """The ids of all languages the model knows, in order."""
        return tuple(range(self.sot + 1, self.sot + 1 + self.num_languages))

    @property
    def all_language_codes(self) -> tuple[str, ...]:
        """The codes of :attr:`all_language_tokens`."""
        return tuple(LANGUAGES)[: self.num_languages]

    @property
    def sot_sequence_including_notimestamps(self) -> tuple[int, ...]:
        """What a transcript without timestamps starts with."""
        return (*self.sot_sequence, self.no_timestamps)

    @property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Ids to suppress so that no speaker tags, notes and annotations of sounds are written.

        Ordinary punctuation is not among them.
        """
        return self.vocabulary.non_speech_tokens

    @property
    def writes_spaces(self) -> bool:
        """Whether the language puts spaces between words."""
        return self.language not in _WITHOUT_SPACES

    def split_to_word_tokens(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        """Cuts tokens into words: at spaces, or at characters in languages that write none.

        Returns:
            The words and the tokens of each.
        """
        if self.writes_spaces:
            return self.split_tokens_on_spaces(tokens)
        return self.split_tokens_on_unicode(tokens)

    def split_tokens_on_unicode(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        """Cuts tokens wherever those so far are whole characters.

        Bytes at the end that make no character are left out.
        """
        whole = self.decode_with_timestamps(tokens)
        words: list[str] = []
        groups: list[list[int]] = []
        group: list[int] = []
        offset = 0
        for token in tokens:
            group.append(token)
            text = self.decode_with_timestamps(group)
            broken = text.find("\ufffd")
            # A replacement character may be one that the full text has at this place as well.
            if broken < 0 or whole[offset + broken : offset + broken + 1] == "\ufffd":
                words.append(text)
                groups.append(group)
                group = []
                offset += len(text)
        return words, groups

    def split_tokens_on_spaces(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        """Cuts tokens before spaces, around punctuation and around special tokens."""
        words: list[str] = []
        groups: list[list[int]] = []
        for text, group in zip(*self.split_tokens_on_unicode(tokens)):
            starts = group[0] >= self.eot or text.startswith(" ") or text.strip() in string.punctuation
            if starts or not words:
                words.append(text)
                groups.append(list(group))
            else:
                words[-1] += text
                groups[-1] += group
        return words, groups


def language_code(language: str) -> str:
    """A language's code from its code or English name, in any case.

    Raises:
        OptionError: Whisper has no such language.
    """
    wanted = language.lower()
    if wanted in LANGUAGES:
        return wanted
    if wanted in TO_LANGUAGE_CODE:
        return TO_LANGUAGE_CODE[wanted]
    raise OptionError(f"unsupported language {language!r}; give a code ('de') or a name ('german')")


def get_tokenizer(
    multilingual: bool,
    *,
    num_languages: int = 99,
    language: str | None = None,
    task: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> Tokenizer:
    """The tokenizer of a model.

    Args:
        multilingual: Whether the model is not an ``.en`` one, which has neither language nor task.
        num_languages: 100 from large-v3 on.
        language: Code or English name; English for a multilingual model if None.
        task: ``transcribe`` or ``translate``; the former for a multilingual model if None.
        vocabulary: The model's tokens; without them, an installed or cached checkpoint's are used.

    Raises:
        OptionError: The language or task does not exist.
        TokenizerError: The vocabulary is not of the wanted kind.
    """
    if language is not None:
        language = language_code(language)
    if vocabulary is None:
        vocabulary = _found_vocabulary(multilingual, num_languages)
    elif vocabulary.multilingual != multilingual or vocabulary.num_languages != num_languages:
        raise TokenizerError("the vocabulary is not of the model that was asked for")
    if not multilingual:
        return Tokenizer(vocabulary)
    return Tokenizer(vocabulary, language or "en", task or "transcribe")


@lru_cache
def _found_vocabulary(multilingual: bool, num_languages: int) -> Vocabulary:
    from max_whisper.checkpoints import find_vocabulary

    ranks = find_vocabulary(multilingual)
    expected = _MULTILINGUAL_RANKS if multilingual else _ENGLISH_RANKS
    if len(ranks) != expected:
        raise TokenizerError(f"the vocabulary has {len(ranks)} ordinary tokens instead of {expected}")
    return Vocabulary(ranks, num_languages)
