"""A vocabulary of some 90 tokens, and a language model made of random tables.

The model answers with the same float32 logits whoever asks: our decoding through a mock runtime,
or openai-whisper's (see ``scripts/make_decoding_references.py``). It needs no weights.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from max_whisper.checkpoints.checkpoint import ModelDimensions

TEXT = " " + string.ascii_lowercase + ".,'-"
LANGUAGES = ("en", "fr", "de")
SPECIALS = ("eot", "sot", *LANGUAGES, "translate", "transcribe", "lm", "prev", "nospeech", "notimestamps")
IDS = {name: len(TEXT) + i for i, name in enumerate(SPECIALS)}
TIMESTAMP_BEGIN = len(TEXT) + len(SPECIALS)
AUDIO_CTX = 50
DIMS = ModelDimensions(
    n_mels=4,
    n_audio_ctx=AUDIO_CTX,
    n_audio_state=2,
    n_audio_head=1,
    n_audio_layer=1,
    n_vocab=TIMESTAMP_BEGIN + AUDIO_CTX + 1,
    n_text_ctx=64,
    n_text_state=2,
    n_text_head=1,
    n_text_layer=1,
)


class MultilingualDimensions(ModelDimensions):
    """Dimensions that call their few languages languages."""

    @property
    def is_multilingual(self) -> bool:
        return True

    @property
    def num_languages(self) -> int:
        return len(LANGUAGES)


MULTILINGUAL = MultilingualDimensions(**vars(DIMS))


class TinyTokenizer:
    """One token a character; attributes as openai-whisper's ``Tokenizer`` has them."""

    def __init__(self, language: str | None = "en", task: str | None = "transcribe") -> None:
        self.language = language
        self.task = task
        self.eot, self.sot = IDS["eot"], IDS["sot"]
        self.translate, self.transcribe = IDS["translate"], IDS["transcribe"]
        self.sot_lm, self.sot_prev = IDS["lm"], IDS["prev"]
        self.no_speech, self.no_timestamps = IDS["nospeech"], IDS["notimestamps"]
        self.timestamp_begin = TIMESTAMP_BEGIN
        self.non_speech_tokens = (TEXT.index("'"), TEXT.index("-"))
        self.all_language_tokens = tuple(IDS[code] for code in LANGUAGES)
        self.all_language_codes = LANGUAGES
        sequence = [self.sot]
        if language is not None:
            sequence.append(IDS[language])
        if task is not None:
            sequence.append(self.transcribe if task == "transcribe" else self.translate)
        self.sot_sequence = tuple(sequence)
        self.sot_sequence_including_notimestamps = (*sequence, self.no_timestamps)

    @property
    def language_token(self) -> int:
        assert self.language is not None
        return IDS[self.language]

    writes_spaces = True

    def encode(self, text: str, **options: object) -> list[int]:
        assert options in ({}, {"disallowed_special": ()})
        return [TEXT.index(c) for c in text.lower() if c in TEXT]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(TEXT[i] for i in ids if i < len(TEXT))

    def split_to_word_tokens(self, ids: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        words: list[list[int]] = []
        for i in ids:
            if not words or i >= len(TEXT) or TEXT[i] in " .,'-":
                words.append([])
            words[-1].append(i)
        return [self.decode(word) for word in words], words


class TinyModel:
    """Logits from tables: of the last two tokens, the position, and what the window holds."""

    def __init__(self, seed: int, *, spread: float = 1.5, end: float = -1.0, silence: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        n = DIMS.n_vocab

        def table(rows: int, scale: float) -> np.ndarray:
            return (rng.standard_normal((rows, n)) * scale).astype(np.float32)

        self.last, self.before = table(n, spread), table(n, spread / 2)
        self.windows, self.positions = table(97, spread), table(DIMS.n_text_ctx, spread / 4)
        self.windows[:, TIMESTAMP_BEGIN:] -= 1
        self.windows[:, IDS["eot"]] += end
        self.windows[:, IDS["nospeech"]] += silence

    def features(self, mel: np.ndarray) -> np.ndarray:
        """(n_audio_ctx, n_audio_state) features of a mel of small whole numbers, exact in float32."""
        frames = mel[:, : 2 * (mel.shape[1] // 2)]
        key = int(np.abs(frames * np.arange(1, frames.shape[1] + 1) % 7).sum()) % 97
        return np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), key, np.float32)

    def logits(self, history: Sequence[int], features: np.ndarray) -> np.ndarray:
        """(n_vocab,) float32 for the token after a history."""
        key = int(features[0, 0])
        before = history[-2] if len(history) > 1 else history[-1]
        out: np.ndarray = self.last[history[-1]] + self.before[before] + self.windows[key]
        return out + self.positions[len(history) - 1]


def made_up_alignment(
    tokens: Sequence[int], frames: int, seed: int
) -> list[tuple[str, list[int], float, float, float]]:
    """Words of a text with random times, some far too long or short: (word, tokens, start, end, p)."""
    words: list[list[int]] = []
    for token in tokens:
        if not words or TEXT[token] in " .,'-":
            words.append([])
        words[-1].append(token)
    rng = np.random.default_rng([seed, frames, *tokens])
    steps = rng.choice(
        [0, 1, 3, 10, 20, 40, 150, 400], 2 * len(words), p=[0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.05, 0.05]
    )
    times = np.minimum(np.cumsum(steps), frames // 2) / 50
    probabilities = rng.choice([0.05, 0.5, 0.9], len(words))
    return [
        ("".join(TEXT[i] for i in ids), ids, float(times[2 * n]), float(times[2 * n + 1]), float(p))
        for n, (ids, p) in enumerate(zip(words, probabilities))
    ]
