"""A world in which a word is said each second, and a model that hears it as Whisper would.

What is said in a second is told by the loudness of its samples. The model spells the words that
are in its window, mishears the last one where the audio ends in the midst of it, and has
cross-attention that follows what it spells.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from importlib import import_module

import numpy as np

from max_whisper.model import Whisper
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, IDS, MULTILINGUAL, TEXT, TinyTokenizer

RATE = 16000
WORDS = ("ask", "not", "what", "your", "country", "can", "do", "for", "you", "stop.")
SPOKEN = 0.8  # seconds of each second; the rest is a pause


def speech(numbers, start=0.0):
    """Samples of one word a second; None is a second of silence."""
    parts = [np.zeros(round(start * RATE), np.float32)]
    for number in numbers:
        second = np.zeros(RATE, np.float32)
        if number is not None:
            second[: round(SPOKEN * RATE)] = (number % len(WORDS) + 1) / 100
        parts.append(second)
    return np.concatenate(parts)


def text_of(numbers):
    return "".join(f" {WORDS[number % len(WORDS)]}" for number in numbers if number is not None)


def loudness(audio, n_mels, padding):
    """In place of a spectrogram: how loud each 10 ms are."""
    out = np.zeros((n_mels, (len(audio) + padding) // 160), np.float32)
    whole = np.asarray(audio)[: len(audio) // 160 * 160].reshape(-1, 160)
    out[0, : len(whole)] = whole.mean(axis=1)
    out[1, 0] = len(whole)
    return out


def is_loud(window):
    """In place of a voice detector."""
    return float(np.abs(window).max() > 0)


def live_in_this_world(monkeypatch):
    """Lets live transcription hear spectrograms and voices of this world."""
    # By name through the package, "transcribe" would be the function.
    modules = {name: import_module(f"max_whisper.transcribe.{name}") for name in ("live.transcriber", "vad")}
    monkeypatch.setattr(modules["live.transcriber"], "log_mel_spectrogram", loudness)
    monkeypatch.setattr(modules["vad"], "find_spec", lambda name: name)
    monkeypatch.setattr(import_module("max_whisper.transcribe.live.gate"), "silero_stream", lambda: is_loud)


def tokens_of(text):
    return [TEXT.index(c) for c in text]


class SpokenRuntime(MockRuntime):
    """Hears the words of a window; ``unsure``: never the same way twice."""

    def __init__(self, multilingual=False):
        self.unsure = False
        dims = replace(MULTILINGUAL if multilingual else DIMS, n_text_ctx=448, n_audio_ctx=1500)
        super().__init__(dims, self.logits, self.heard)
        self._known = {}

    def heard(self, mel):
        features = np.zeros((1500, 2), np.float32)
        features[:, 0] = mel[0, ::2]
        features[0, 1] = mel[1, 0]
        features[1, 1] = self.encodings if self.unsure else 0
        return features

    def script(self, features):
        """(token, first position of its 20 ms) of all that is heard in a window."""
        key = features.tobytes()
        if key not in self._known:
            self._known = {key: self._script(features)}  # one is enough: windows are heard in turn
        return self._known[key]

    def _script(self, features):
        end = int(features[0, 1]) // 2
        loud = np.rint(features[:end, 0] * 100).astype(int)
        script, position = [], 0
        for number, run in itertools.groupby(loud.tolist()):
            length = len(list(run))
            if number and length > 5:
                whole = length >= SPOKEN * 50 - 2 or position + length < end - 1
                word = WORDS[number - 1] if whole else "x" + WORDS[number - 1][:2]
                if features[1, 1]:
                    word = "zy"[int(features[1, 1]) % 2] + word
                spelled = tokens_of(f" {word}")
                step = length / len(spelled)
                script += [(token, position + int(i * step)) for i, token in enumerate(spelled)]
            position += length
        return script

    def logits(self, history, features):
        out = np.zeros(self.dims.n_vocab, np.float32)
        out[IDS["nospeech"]] = -10
        script = self.script(features)
        if IDS["notimestamps"] not in history:
            out[IDS["fr"]] = 10
            return out
        said = len(history) - 1 - history.index(IDS["notimestamps"])
        out[script[said][0] if said < len(script) else IDS["eot"]] = 10
        return out

    def scores(self, queries, heads, window):
        features = self.features(window)
        script, end = self.script(features), int(features[0, 1]) // 2
        scores = np.zeros((len(heads), queries.shape[1], 1500), np.float32)
        # The row that predicts a token attends to it; text follows three tokens of the start and one more.
        starts = [position for _, position in script]
        ends = [*starts[1:], end]
        for row in range(queries.shape[1]):
            text = row - len(TinyTokenizer().sot_sequence)
            if 0 <= text < len(script):
                scores[:, row, starts[text] : ends[text]] = 10
            elif text >= len(script):
                scores[:, row, max(end - 2, 0) : end] = 10
        return scores


class SpokenWhisper(Whisper):
    """A model of that world."""

    def __init__(self, multilingual=False):
        self.runtime = SpokenRuntime(multilingual)
        super().__init__(self.runtime, None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")

    def passes(self):
        """How many passes the decoder made since the last call."""
        count = len(self.runtime.passes)
        self.runtime.passes.clear()
        return count
