"""Word times of one engine: ``word_times.py JOB.json RESULT.json``, run in the engine's own environment.

The job names the engine, the weights and the recordings (samples in ``.npy`` files, texts); the result
has for each recording the words, as [text, start, end].
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

REFERENCES = Path(__file__).resolve().parents[2] / "src" / "max_whisper" / "parity" / "references"
Words = list[tuple[str, float, float]]


def of_result(result: dict[str, Any]) -> Words:
    return [(w["word"], w["start"], w["end"]) for s in result["segments"] for w in s["words"]]


class MaxWhisper:
    def __init__(self, job: dict[str, Any]) -> None:
        import max_whisper

        self.model = max_whisper.load_model(job["model"], precision=job["precision"], threads=job["threads"])

    def align(self, samples: Any, text: str) -> Words:
        return of_result(self.model.align(samples, text, language="en"))

    def transcribe(self, samples: Any, text: str) -> Words:
        del text
        return of_result(self.model.transcribe(samples, language="en", word_timestamps=True))

    def transcribe_fast(self, samples: Any, text: str) -> Words:
        del text
        return of_result(self.model.transcribe(samples, language="en", word_timestamps="fast"))


class OpenAI:
    def __init__(self, job: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(job["threads"])
        sys.path.insert(0, str(REFERENCES))
        import openai_stages  # type: ignore[import-not-found, unused-ignore]

        self.model = openai_stages.load(job["arrays"])

    def align(self, samples: Any, text: str) -> Words:
        """What its word times are made of, over a text that was given: one window at most."""
        import whisper
        from whisper.timing import find_alignment, merge_punctuations

        if len(samples) > whisper.audio.N_SAMPLES:
            raise RuntimeError("openai-whisper aligns a known text in one window alone")
        tokenizer = whisper.tokenizer.get_tokenizer(
            self.model.is_multilingual,
            num_languages=self.model.num_languages,
            language="en",
            task="transcribe",
        )
        mel = whisper.log_mel_spectrogram(samples, self.model.dims.n_mels, padding=whisper.audio.N_SAMPLES)
        window = whisper.pad_or_trim(mel[:, : len(samples) // 160], whisper.audio.N_FRAMES)
        found = find_alignment(
            self.model, tokenizer, tokenizer.encode(" " + text), window, len(samples) // 160
        )
        merge_punctuations(found, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
        return [(w.word, float(w.start), float(w.end)) for w in found if w.word]

    def transcribe(self, samples: Any, text: str) -> Words:
        del text
        return of_result(
            self.model.transcribe(samples, language="en", fp16=False, verbose=None, word_timestamps=True)
        )


class StableTs(OpenAI):
    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        import stable_whisper

        stable_whisper.modify_model(self.model)

    def align(self, samples: Any, text: str) -> Words:
        found = self.model.align(samples, text, language="en", verbose=None)
        if found is None:
            raise RuntimeError("stable-ts could not align the text")
        return [(w.word, float(w.start), float(w.end)) for w in found.all_words()]


ENGINES = {"max-whisper": MaxWhisper, "openai-whisper": OpenAI, "stable-ts": StableTs}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    engine = ENGINES[job["engine"]](job)
    results = []
    for recording in job["recordings"]:
        samples = np.load(recording["samples"])
        began = time.perf_counter()
        words = getattr(engine, job["method"])(samples, recording["text"])
        results.append({"words": words, "seconds": time.perf_counter() - began})
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
