"""One class an engine: loads a model when made, transcribes samples when asked.

This runs in each engine's own environment, so every import of an engine is inside its class. All
get the same settings: English, timestamps, temperature 0 without fallback, no conditioning on the
text before.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import io
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Heard = Callable[[], None]


class Adapter:
    """What a worker needs of an engine.

    Args:
        model: Path of the weights.
        threads: How many threads to compute with.
        beam: 1 is greedy.
        options: The engine's own.
    """

    package = ""

    def __init__(self, model: str, threads: int, beam: int, options: dict[str, Any]) -> None:
        self.model, self.threads, self.beam, self.options = model, threads, beam, options
        self.load()

    def load(self) -> None:
        raise NotImplementedError

    def transcribe(self, samples: Any, heard: Heard) -> str:
        """The text; ``heard`` is to be called as soon as some of it is known."""
        raise NotImplementedError

    def transcribe_many(self, recordings: Sequence[Any]) -> list[str]:
        """The texts of several recordings; one after the other if the engine has nothing better."""
        return [self.transcribe(samples, lambda: None) for samples in recordings]

    def stages(self) -> dict[str, Any] | None:
        """Seconds by stage since the last call, from engines that can tell."""
        return None

    def version(self) -> str:
        return importlib.metadata.version(self.package)


class StageClock:
    """Notes how long each call of a runtime takes: an encoded window, a pass of the decoder.

    Args:
        runtime: The class whose calls are timed from now on.
    """

    def __init__(self, runtime: Any) -> None:
        self.encodes: list[float] = []
        self.passes: list[tuple[int, int, int, float]] = []  # tokens, outputs, windows, seconds
        for name, note in (("encode", self._encoded), ("forward", self._passed), ("run", self._ran)):
            setattr(runtime, name, _timed(getattr(runtime, name), note))

    def _encoded(self, seconds: float, *_: Any) -> None:
        self.encodes.append(seconds)

    def _passed(self, seconds: float, batch: Any, _: Any) -> None:
        windows = len(set(batch.windows.tolist()))
        self.passes.append((len(batch.tokens), len(batch.outputs), windows, seconds))

    def _ran(self, seconds: float, run: Any, found: Any) -> None:
        steps = len(found.tokens)
        windows = len(set(run.windows.tolist()))
        self.passes += [(len(run.rows), len(run.rows), windows, seconds / steps)] * steps


def _timed(call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """A method that tells its seconds, its first argument and its result."""

    def timed(runtime: Any, given: Any, *more: Any) -> Any:
        start = time.perf_counter()
        found = call(runtime, given, *more)
        note(time.perf_counter() - start, given, found)
        return found

    return timed


class MaxWhisper(Adapter):
    package = "max-whisper"

    def load(self) -> None:
        from max_whisper import load_model

        self.whisper = load_model(self.model, precision=self.options["precision"], threads=self.threads)

        from max_whisper.graph.runtime import MaxRuntime

        self.clock = StageClock(MaxRuntime)

    def _settings(self) -> dict[str, Any]:
        more = {"beam_size": self.beam} if self.beam > 1 else {}
        if self.options["batch"]:
            more["batch_size"] = self.options["batch"]
        return {"language": "en", "temperature": 0.0, "condition_on_previous_text": False, **more}

    def transcribe(self, samples: Any, heard: Heard) -> str:
        text = ""
        for segment in self.whisper.stream(samples, **self._settings()):
            heard()
            text += segment.text
        return text

    def transcribe_many(self, recordings: Sequence[Any]) -> list[str]:
        from max_whisper.transcribe.options import transcribe_options
        from max_whisper.transcribe.segments import Transcript

        texts = [""] * len(recordings)
        for number, event in self.whisper.events_of_many(recordings, transcribe_options(**self._settings())):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Transcript):
                texts[number] = event.text
        return texts

    def stages(self) -> dict[str, Any]:
        found = {"encodes": list(self.clock.encodes), "passes": list(self.clock.passes)}
        self.clock.encodes.clear()
        self.clock.passes.clear()
        return found

    def version(self) -> str:
        from max_whisper.version import __version__

        return str(__version__)


class _Listener(io.StringIO):
    """Standard output that tells of the first thing written."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def write(self, text: str) -> int:
        if text.strip():
            self._heard()
        return super().write(text)


class OpenAI(Adapter):
    package = "openai-whisper"

    def load(self) -> None:
        import torch
        import whisper

        torch.set_num_threads(self.threads)
        self.whisper = whisper.load_model(self.model, device="cpu")

    def transcribe(self, samples: Any, heard: Heard) -> str:
        settings = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False, "fp16": False}
        if self.beam > 1:
            settings["beam_size"] = self.beam
        with contextlib.redirect_stdout(_Listener(heard)):
            return str(self.whisper.transcribe(samples, verbose=True, **settings)["text"])


class FasterWhisper(Adapter):
    package = "faster-whisper"

    def load(self) -> None:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        kind = self.options["compute_type"]
        model = WhisperModel(self.model, device="cpu", compute_type=kind, cpu_threads=self.threads)
        self.whisper = BatchedInferencePipeline(model) if self.options["batch"] else model

    def transcribe(self, samples: Any, heard: Heard) -> str:
        settings = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False}
        if self.options["batch"]:
            settings["batch_size"] = self.options["batch"]
        segments, _ = self.whisper.transcribe(samples, beam_size=self.beam, **settings)
        text = ""
        for segment in segments:
            heard()
            text += segment.text
        return text


class WhisperCpp(Adapter):
    package = "pywhispercpp"

    def load(self) -> None:
        # Built from source, the module does not know that its libraries lie beside it; once they
        # are loaded, it finds them by their names.
        folder = Path(sysconfig.get_path("platlib"))
        for name in ("libggml-base.so.0", "libggml-cpu.so.0", "libggml.so.0", "libwhisper.so.1"):
            if (folder / name).is_file():
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)

        from pywhispercpp.model import Model

        self.whisper = Model(
            self.model,
            params_sampling_strategy=int(self.beam > 1),
            redirect_whispercpp_logs_to=None,
            n_threads=self.threads,
            language="en",
            print_progress=False,
            no_context=True,
            suppress_nst=True,
            temperature=0.0,
            temperature_inc=0.0,
            **({"beam_search": {"beam_size": self.beam, "patience": -1.0}} if self.beam > 1 else _ONE),
        )

    def transcribe(self, samples: Any, heard: Heard) -> str:
        segments = self.whisper.transcribe(samples, new_segment_callback=lambda segment: heard())
        return " ".join(segment.text for segment in segments)

    def version(self) -> str:
        import _pywhispercpp

        features = [part.strip() for part in _pywhispercpp.whisper_print_system_info().split("|")]
        return f"{super().version()} ({', '.join(f.split(' =')[0] for f in features if f.endswith('= 1'))})"


_ONE = {"greedy": {"best_of": 1}}


class OpenVino(Adapter):
    package = "openvino-genai"

    def load(self) -> None:
        import openvino_genai

        self.whisper = openvino_genai.WhisperPipeline(
            self.model,
            "CPU",
            INFERENCE_NUM_THREADS=self.threads,
            INFERENCE_PRECISION_HINT=self.options["hint"],
            CACHE_DIR=f"{self.model}/cache-{self.options['hint']}",
        )
        self.config = self.whisper.get_generation_config()
        self.config.return_timestamps = True
        self.config.num_beams = self.beam
        if self.config.is_multilingual:
            self.config.language, self.config.task = "<|en|>", "transcribe"

    def transcribe(self, samples: Any, heard: Heard) -> str:
        if self.beam > 1:  # it streams greedy text alone
            return str(self.whisper.generate(samples, self.config).texts[0])

        def streamed(piece: str) -> bool:
            if piece.strip():
                heard()
            return False

        return str(self.whisper.generate(samples, self.config, streamed).texts[0])


ADAPTERS = {each.__name__: each for each in (MaxWhisper, OpenAI, FasterWhisper, WhisperCpp, OpenVino)}
