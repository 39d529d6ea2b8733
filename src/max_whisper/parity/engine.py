"""Our side: one checkpoint on one runtime, with a fault planted if one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import N_FRAMES, N_SAMPLES, log_mel_spectrogram
from max_whisper.checkpoints import cache_folder
from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.requests import Attend
from max_whisper.decoding.runtime import Batch, Candidates, Ran, Run, Runtime
from max_whisper.decoding.window import decode_window
from max_whisper.errors import OptionError
from max_whisper.parity.faults import Fault
from max_whisper.parity.measure import Array
from max_whisper.parity.numpy_model import NumpyWhisper, Variation
from max_whisper.parity.numpy_runtime import NumpyRuntime
from max_whisper.tokenizer import Tokenizer, Vocabulary, get_tokenizer
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.recording import transcribe_recording
from max_whisper.transcribe.scheduler import Scheduler

Result = TypeVar("Result")
_SOUND = Fault("", "", "nothing")


class PlantedRuntime:
    """A runtime that hears or hands on something else than it should."""

    def __init__(self, runtime: Runtime, fault: Fault, last_block: Callable[[Array], Array]) -> None:
        self._runtime = runtime
        self._fault = fault
        self._last_block = last_block

    @property
    def dims(self) -> ModelDimensions:
        """The model's dimensions."""
        return self._runtime.dims

    def reserve(self, rows: int, windows: int) -> None:
        """As the runtime below."""
        self._runtime.reserve(rows, windows)

    def encode(self, mel: NDArray[np.float32], window: int) -> None:
        """Encodes with the fault."""
        mel = self._fault.mel(mel) if self._fault.mel else mel
        self._runtime.encode(mel, window)
        if self._fault.features:
            out = self._runtime.features(window)
            last = self._last_block(mel) if self._fault.needs_last else out
            self._runtime.attend(self._fault.features(out, last), window)

    def attend(self, features: NDArray[np.float32], window: int) -> None:
        """As the runtime below."""
        self._runtime.attend(features, window)

    def features(self, window: int) -> NDArray[np.float32]:
        """As the runtime below."""
        return self._runtime.features(window)

    def forward(self, batch: Batch) -> Candidates:
        """As the runtime below."""
        return self._runtime.forward(batch)

    def run(self, run: Run) -> Ran:
        """As the runtime below."""
        return self._runtime.run(run)

    def alignment(
        self,
        queries: NDArray[np.float32],
        heads: Sequence[tuple[int, int]],
        window: int,
        positions: int,
        wanted: slice,
    ) -> NDArray[np.integer]:
        """As the runtime below."""
        return self._runtime.alignment(queries, heads, window, positions, wanted)


class Engine:
    """Runs the lab's tasks on our side.

    Args:
        kind: ``max`` or ``numpy``.
        checkpoint: The weights.
        fault: What to plant. A fault that changes the computation itself makes the numpy model
            stand for our side, whatever ``kind`` says.
        precision: Of the MAX graphs.
        device: Where the MAX graphs run.
    """

    def __init__(
        self,
        kind: str,
        checkpoint: Checkpoint,
        *,
        fault: Fault | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.fault = fault or _SOUND
        self.checkpoint = self.fault.plant(checkpoint)
        self._sound_fingerprint = checkpoint.fingerprint
        self.dims = checkpoint.dims
        self.kind = "numpy" if self.fault.variation != Variation() else kind
        self._precision, self._device = precision, device
        self._runtime: Runtime | None = None

    def tokenizer(self, language: str | None, task: str) -> Tokenizer:
        """The tokenizer for a language and a task."""
        return tokenizer_of(self.checkpoint, language, task)

    def close(self) -> None:
        """Removes the packed weights that a planted fault has left in the cache."""
        if self.checkpoint.fingerprint != self._sound_fingerprint:
            for path in (cache_folder() / "weights").glob(f"{self.checkpoint.fingerprint[:32]}-*"):
                path.unlink(missing_ok=True)

    def _numpy(self) -> NumpyWhisper:
        return NumpyWhisper(self.checkpoint, self.fault.variation)

    def _last_block(self, mel: Array) -> Array:
        """The encoder before its last norm, by the numpy model: no compiled graph gives it alone."""
        model = NumpyWhisper(self.checkpoint, Variation(ln_post=False))
        return model.encode(np.asarray(mel, dtype=np.float32))

    def runtime(self) -> Runtime:
        """The runtime, made at the first call."""
        if self._runtime is None:
            below: Runtime
            if self.kind == "numpy":
                below = NumpyRuntime(self._numpy())
            elif self.kind == "max":
                from max_whisper.graph.runtime import load_runtime

                below = load_runtime(self.checkpoint, device=self._device, precision=self._precision)
            else:
                raise OptionError(f"our side is max or numpy, not {self.kind!r}")
            self._runtime = PlantedRuntime(below, self.fault, self._last_block)
        return self._runtime

    def _run(self, generator: Generator[Any, Any, Result], rows: int) -> Result:
        scheduler = Scheduler(self.runtime())
        job = scheduler.submit(generator, rows)
        while scheduler.step():
            pass
        return job.result()

    def transcribe(self, samples: Array, options: dict[str, Any]) -> dict[str, Any]:
        """Transcribes 16 kHz samples; options and result are those of openai-whisper."""
        if self.fault.first_window_only:
            samples = samples[:N_SAMPLES]
        wanted = transcribe_options(**options)
        mel = log_mel_spectrogram(samples, self.dims.n_mels, padding=N_SAMPLES)
        recording = transcribe_recording(mel, self.dims, self._tokenizer_for(), wanted)
        return self._run(recording, wanted.rows).as_dict()

    def _tokenizer_for(self) -> Any:
        if self.fault.tokens is None:
            return self.tokenizer
        plant = self.fault.tokens

        def planted(language: str | None, task: str) -> Tokenizer:
            tokenizer = self.tokenizer(language, task)
            sequence = plant(list(tokenizer.sot_sequence), tokenizer.transcribe, tokenizer.translate)
            tokenizer.sot_sequence = tuple(sequence)
            return tokenizer

        return planted

    def decode(self, features: Array, options: dict[str, Any]) -> dict[str, Any]:
        """Decodes each of (n, n_audio_ctx, n_audio_state) encoder outputs."""
        wanted = DecodingOptions(**options)
        tokenizer = self.tokenizer(wanted.language, wanted.task)

        def one(window_features: Array) -> Generator[Any, Any, Any]:
            window = yield Attend(window_features)
            return (yield from decode_window(window, wanted, tokenizer, self.dims))

        results = [self._run(one(each), wanted.group_size) for each in features]
        return {"texts": [r.text for r in results], "tokens": [list(map(int, r.tokens)) for r in results]}

    def grafted(self, mel: Array, grafts: Mapping[str, Array]) -> Array:
        """Encoder outputs (n, n_audio_ctx, n_audio_state), each with one stage replaced.

        Raises:
            OptionError: On MAX: a compiled graph takes no array in its middle.
        """
        if self.kind != "numpy":
            raise OptionError("stages can be grafted into a reference only, not into compiled graphs")
        model = self._numpy()

        def encoded(at: str, graft: Array) -> Array:
            return model.encode(mel, lambda name, array: graft if name == at else array)

        return np.stack([encoded(at, graft) for at, graft in grafts.items()])

    def fed(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that our decoder is fed where it should be fed these."""
        if self.fault.tokens is None:
            return list(tokens)
        tokenizer = self.tokenizer("en", "transcribe")
        return self.fault.tokens(list(tokens), tokenizer.transcribe, tokenizer.translate)

    def stages(self, mel: Array, tokens: Sequence[int]) -> tuple[dict[str, Array], list[int]]:
        """Every stage over one window (n_mels, frames), and the tokens that went in."""
        mel = self.fault.mel(mel) if self.fault.mel else mel
        fed = self.fed(tokens)
        arrays = self._numpy().stages(mel, fed) if self.kind == "numpy" else self._probe(mel, fed)
        if self.fault.features:
            last = arrays[f"encoder.blocks.{self.dims.n_audio_layer - 1}"]
            arrays = _up_to_encoder(arrays) | {"ln_post": self.fault.features(arrays["ln_post"], last)}
        return {**arrays, "mel": np.ascontiguousarray(mel.T)}, fed

    def _probe(self, mel: Array, tokens: Sequence[int]) -> dict[str, Array]:
        from max_whisper.graph.probes import probe

        arrays = probe(self.checkpoint, mel, tokens, device=self._device, precision=self._precision)
        # The graph's stage of that name is the sum; what it adds is the table.
        arrays["encoder.input"] = arrays["positions"]
        arrays["positions"] = arrays["encoder.input"] - arrays["conv2"]
        return arrays


def tokenizer_of(checkpoint: Checkpoint, language: str | None, task: str) -> Tokenizer:
    """A checkpoint's tokenizer for a language and a task."""
    dims = checkpoint.dims
    vocabulary = None
    if checkpoint.vocabulary is not None:
        vocabulary = Vocabulary(checkpoint.vocabulary, dims.num_languages)
    return get_tokenizer(
        dims.is_multilingual,
        num_languages=dims.num_languages,
        language=language,
        task=task,
        vocabulary=vocabulary,
    )


def _up_to_encoder(arrays: dict[str, Array]) -> dict[str, Array]:
    """Without the stages that follow from the encoder's output."""
    after = ("cross.", "decoder.", "ln", "logits")
    return {name: array for name, array in arrays.items() if not name.startswith(after)}


def first_window(samples: Array, n_mels: int, start: float = 0.0) -> Array:
    """The log-mel (n_mels, 3000) of 30 s of a recording, beyond its end filled up with zeros."""
    mel = log_mel_spectrogram(samples, n_mels, padding=N_SAMPLES)[:, :-N_FRAMES]
    begin = round(start * 100)
    if not 0 <= begin < mel.shape[1]:
        raise OptionError(f"the recording has {mel.shape[1] / 100:.2f} s; no window starts at {start:g} s")
    window = np.zeros((n_mels, N_FRAMES), np.float32)
    part = mel[:, begin : begin + N_FRAMES]
    window[:, : part.shape[1]] = part
    return window
