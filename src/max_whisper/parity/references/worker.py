"""One reference, one task, one process: run by the Python that has the reference installed.

    python worker.py REQUEST.json

The request names the engine, the kind of task and the files to read and to write; see
:mod:`max_whisper.parity.processes`. What goes wrong is written into the reply as it is: this
program never puts anything in the place of a result.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

Request = dict[str, Any]


def _load_array(request: Request, key: str) -> Any:
    import numpy as np

    return np.load(request[key], allow_pickle=False)


class OpenAI:
    """openai-whisper, in float32."""

    def __init__(self, request: Request) -> None:
        import openai_stages  # type: ignore[import-not-found, unused-ignore]
        import torch

        device = "cpu" if request["engine"] == "openai-cpu" else "cuda"
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch sees no GPU")
        if request.get("threads"):
            torch.set_num_threads(request["threads"])
        self._stages = openai_stages
        self._model = openai_stages.load(request["checkpoint"], device)

    def transcribe(self, request: Request) -> dict[str, Any]:
        """Transcribes 16 kHz samples."""
        result: dict[str, Any] = self._model.transcribe(
            _load_array(request, "audio"), fp16=False, verbose=None, **request["options"]
        )
        return result

    def stages(self, request: Request) -> dict[str, Any]:
        """Writes every stage over one window."""
        import numpy as np

        inputs = _load_array(request, "mel"), request["tokens"]
        arrays = self._stages.capture(self._model, *inputs)
        np.savez(request["arrays"], **arrays)
        return {"tokens": request["tokens"]}

    def graft(self, request: Request) -> dict[str, Any]:
        """Decodes what the encoder gives where one of its stages is replaced, for each in turn."""
        import numpy as np

        mel, features = _load_array(request, "mel"), []
        with np.load(request["grafts"]) as grafts:
            for name in grafts.files:
                stages = self._stages.capture(
                    self._model, mel, request["tokens"], grafts={name: grafts[name]}
                )
                features.append(stages["ln_post"])
            names = grafts.files
        return {"stages": names, **self._decode(np.stack(features), request["options"])}

    def decode(self, request: Request) -> dict[str, Any]:
        """Decodes each of (n, n_audio_ctx, n_audio_state) encoder outputs."""
        return self._decode(_load_array(request, "features"), request["options"])

    def _decode(self, all_features: Any, given: dict[str, Any]) -> dict[str, Any]:
        import torch
        import whisper

        options = whisper.DecodingOptions(fp16=False, **given)
        texts, tokens = [], []
        for features in all_features:
            window = torch.from_numpy(features).to(self._model.device)
            result = whisper.decode(self._model, window, options)
            texts.append(result.text)
            tokens.append(list(map(int, result.tokens)))
        return {"texts": texts, "tokens": tokens}


class FasterWhisper:
    """faster-whisper on a CTranslate2 directory."""

    def __init__(self, request: Request) -> None:
        from faster_whisper import WhisperModel

        self._model = WhisperModel(
            request["checkpoint"],
            device="cpu",
            compute_type=request.get("precision") or "float32",
            cpu_threads=request.get("threads") or 0,
            local_files_only=True,
        )

    def transcribe(self, request: Request) -> dict[str, Any]:
        """Transcribes 16 kHz samples."""
        options = dict(request["options"])
        beams = options.pop("beam_size", None) or 1
        segments, info = self._model.transcribe(_load_array(request, "audio"), beam_size=beams, **options)
        kept = [
            {
                "seek": segment.seek,
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": segment.tokens,
                "temperature": segment.temperature,
                "avg_logprob": segment.avg_logprob,
                "no_speech_prob": segment.no_speech_prob,
            }
            for segment in segments
        ]
        return {"text": "".join(s["text"] for s in kept), "language": info.language, "segments": kept}


class Transformers:
    """Hugging Face transformers on a safetensors directory."""

    def __init__(self, request: Request) -> None:
        import torch
        from transformers import AutoProcessor, WhisperForConditionalGeneration

        if request.get("threads"):
            torch.set_num_threads(request["threads"])
        folder = request["checkpoint"]
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = WhisperForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )

    def transcribe(self, request: Request) -> dict[str, Any]:
        """Transcribes 16 kHz samples."""
        import torch

        given = request["options"]
        options = {"num_beams": given.get("beam_size") or 1}
        options["condition_on_prev_tokens"] = given.get("condition_on_previous_text", True)
        if given.get("language") and self._model.generation_config.is_multilingual:
            options |= {"language": given["language"], "task": given.get("task", "transcribe")}
        inputs = self._processor(
            _load_array(request, "audio"),
            sampling_rate=16000,
            return_tensors="pt",
            truncation=False,
            return_attention_mask=True,
            padding="longest",
        )
        with torch.no_grad():
            tokens = self._model.generate(**inputs, return_timestamps=True, **options)
        text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return {"text": text, "language": given.get("language"), "segments": []}


ENGINES = {
    "openai-cpu": OpenAI,
    "openai-gpu": OpenAI,
    "faster-whisper": FasterWhisper,
    "transformers": Transformers,
}


def answer(request: Request) -> dict[str, Any]:
    """Loads the engine and does the task."""
    start = time.perf_counter()
    engine = ENGINES[request["engine"]](request)
    loaded = time.perf_counter()
    task = getattr(engine, request["kind"], None)
    if task is None:
        raise RuntimeError(f"{request['engine']} cannot do {request['kind']}")
    result = task(request)
    done = time.perf_counter()
    return {"result": result, "load_seconds": loaded - start, "seconds": done - loaded}


def main() -> None:
    """Answers the request in the file named on the command line."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        reply = answer(request)
    except ImportError as error:
        reply = {"error": f"{error.name or error} is not installed for {sys.executable}"}
    except MemoryError:
        reply = {"error": "out of memory"}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        reply = {"error": f"{type(error).__name__}: {error} ({place})"}
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    reply["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()
