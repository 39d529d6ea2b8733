"""A loaded model and its work on windows of 30 seconds: openai-whisper's ``Whisper``, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.audio import N_FRAMES
from max_whisper.decoding.options import DecodingOptions, DecodingResult
from max_whisper.decoding.requests import Acquire, Attend, Encode, Features, Forward, Steps
from max_whisper.decoding.runtime import Candidates, Constraint, Runtime
from max_whisper.decoding.window import decode_window, detect_language
from max_whisper.errors import AudioError, DeviceError, OptionError
from max_whisper.tokenizer import Tokenizer, Vocabulary, get_tokenizer
from max_whisper.transcribe.engine import Engine
from max_whisper.transcribe.words import WordTiming, find_alignment

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[np.float32]


class WindowModel:
    """A model that hears windows.

    Threads may use one model at the same time: their work then shares the decoder's passes.

    Attributes:
        dims: Its dimensions.
        device: Where it runs, such as "cpu".
        vocabulary: Its tokens.
        alignment_heads: (layer, head) pairs whose cross-attention follows the audio.
    """

    def __init__(
        self,
        runtime: Runtime,
        vocabulary: Vocabulary,
        *,
        device: str = "cpu",
        alignment_heads: Sequence[tuple[int, int]] | None = None,
        silence: int | None = None,
    ) -> None:
        """Takes a runtime over; nobody else may call it.

        Args:
            runtime: The model's computations.
            vocabulary: The model's tokens.
            device: What the runtime runs on.
            alignment_heads: As the checkpoint says; if None, all heads of the later half of the
                layers, as in openai-whisper.
            silence: See the attribute of :class:`~max_whisper.model.Whisper`.
        """
        self.dims = runtime.dims
        self.device = device
        self.vocabulary = vocabulary
        layers, heads = self.dims.n_text_layer, self.dims.n_text_head
        later = [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]
        self.alignment_heads = tuple(alignment_heads or later)
        self.silence = silence
        self._engine = Engine(runtime)

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return self.dims.is_multilingual

    @property
    def num_languages(self) -> int:
        """How many languages it knows."""
        return self.dims.num_languages

    def to(self, device: object) -> Self:
        """The model itself; its device is chosen when it is loaded.

        Raises:
            DeviceError: For another device than its own.
        """
        if str(device) != self.device:
            raise DeviceError(
                f"this model runs on {self.device}; load it again to run it on another device: "
                f"load_model(name, device={str(device)!r})"
            )
        return self

    def tokenizer(self, language: str | None = None, task: str | None = None) -> Tokenizer:
        """The model's tokenizer for a language and a task."""
        return get_tokenizer(
            self.is_multilingual,
            num_languages=self.num_languages,
            language=language,
            task=task,
            vocabulary=self.vocabulary,
        )

    def embed_audio(self, mel: ArrayLike) -> Array:
        """Encodes log-mel windows.

        Args:
            mel: (n_mels, 3000), or (n, n_mels, 3000).

        Returns:
            (n_audio_ctx, n_audio_state) float32, or n of them.
        """

        def work(one: Array) -> Steps[Array]:
            window = yield self._heard(one)
            features: Array = yield Features(window)
            return features

        return _like(mel, self._engine.run_all([work(one) for one in _windows(mel)]))

    def logits(self, tokens: ArrayLike, audio_features: ArrayLike) -> Array:
        """The logits after every token of some sequences.

        Args:
            tokens: (n, m) ids.
            audio_features: (n, n_audio_ctx, n_audio_state), or one for all n.

        Returns:
            (n, m, n_vocab) float32.

        Raises:
            OptionError: For ids that the vocabulary lacks, or more tokens than the text context.
        """
        ids = np.asarray(tokens)
        features = _windows(audio_features)
        if ids.ndim != 2 or ids.shape[1] > self.dims.n_text_ctx or len(features) not in (1, len(ids)):
            raise OptionError(
                f"tokens of shape {ids.shape} don't go with {len(features)} encoded windows and a "
                f"context of {self.dims.n_text_ctx}"
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < self.dims.n_vocab:
            raise OptionError(f"there are token ids outside 0 to {self.dims.n_vocab - 1}")
        works = [self._logits(row.tolist(), features[i % len(features)]) for i, row in enumerate(ids)]
        return np.stack(self._engine.run_all(works))

    def __call__(self, mel: ArrayLike, tokens: ArrayLike) -> Array:
        """Logits over log-mel windows, see :meth:`embed_audio` and :meth:`logits`."""
        return self.logits(tokens, self.embed_audio(mel))

    def detect_language(self, mel: ArrayLike, tokenizer: Tokenizer | None = None) -> tuple[Any, Any]:
        """Tells what language is spoken.

        Args:
            mel: A log-mel window or encoder output, or several.
            tokenizer: One of this model's; made if not given.

        Returns:
            The language's token, and a dict of probabilities by language code; an array and a
            list of these for several.

        Raises:
            OptionError: For an English-only model.
        """
        tokens = tokenizer or self.tokenizer()

        def work(one: Array) -> Steps[tuple[int, dict[str, float]]]:
            window = yield self._heard(one)
            return (yield from detect_language(window, tokens))

        found = self._engine.run_all([work(one) for one in _windows(mel)])
        ids = np.array([token for token, _ in found])
        return (ids[0], found[0][1]) if np.ndim(mel) == 2 else (ids, [probs for _, probs in found])

    def decode(
        self, mel: ArrayLike, options: DecodingOptions | None = None, **changes: Any
    ) -> DecodingResult | list[DecodingResult]:
        """Decodes 30-second windows.

        Args:
            mel: A log-mel window (n_mels, 3000) or encoder output (n_audio_ctx, n_audio_state), or
                several of them: these are decoded side by side.
            options: How.
            changes: Options to set in place of those.

        Returns:
            The result, or a list of results for several windows.

        Raises:
            OptionError: For options that make no sense.
        """
        options = replace(options or DecodingOptions(), **changes)
        task = "transcribe" if options.task == "lang_id" else options.task
        tokenizer = self.tokenizer(options.language, task)

        def work(one: Array) -> Steps[DecodingResult]:
            window = yield self._heard(one)
            result = yield from decode_window(window, options, tokenizer, self.dims)
            return replace(result, audio_features=(yield Features(window)))

        results = self._engine.run_all([work(one) for one in _windows(mel)], options.group_size)
        return results[0] if np.ndim(mel) == 2 else results

    def align_window(
        self, mel: ArrayLike, text_tokens: Sequence[int], tokenizer: Tokenizer, frames: int = N_FRAMES
    ) -> list[WordTiming]:
        """Finds when the words of a text are said in a window.

        Args:
            mel: A log-mel window or encoder output.
            text_tokens: The text, without timestamps.
            tokenizer: One of this model's.
            frames: How many of the window's 3000 frames hold speech.
        """
        (one,) = _windows(mel)

        def work() -> Steps[list[WordTiming]]:
            window = yield self._heard(one)
            return (yield from find_alignment(window, frames, text_tokens, tokenizer, self.alignment_heads))

        return self._engine.run(work())

    def run(self, work: Steps[Any]) -> Any:
        """Runs a generator of requests (:mod:`max_whisper.decoding.requests`) to its end."""
        return self._engine.run(work)

    def _heard(self, one: Array) -> Encode | Attend:
        """The request that makes a window of a log-mel or of encoder output."""
        mel, features = (self.dims.n_mels, N_FRAMES), (self.dims.n_audio_ctx, self.dims.n_audio_state)
        if one.shape == features:
            return Attend(one)
        if one.shape == mel:
            return Encode(one)
        raise AudioError(
            f"a window of shape {one.shape} is neither log-mel {mel} nor encoder output {features}"
        )

    def _logits(self, tokens: list[int], features: Array) -> Steps[Array]:
        window = yield self._heard(features)
        (row,) = yield Acquire(1)
        count = len(tokens)
        free = [Constraint()] * count
        found: Candidates = yield Forward(
            tokens, [row] * count, range(count), window, range(count), free, logits=True
        )
        return found.logits()


def _windows(given: ArrayLike) -> list[Array]:
    """One window or several, as a list of contiguous float32 arrays."""
    array = np.asarray(given, np.float32)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise AudioError(f"a window has two dimensions, several have three; the shape is {array.shape}")
    return [np.ascontiguousarray(one) for one in array]


def _like(given: ArrayLike, results: list[Array]) -> Array:
    return results[0] if np.ndim(given) == 2 else np.stack(results)
