"""Writes tests/data/decoding/*.json: what openai-whisper decodes from the tests' tiny models.

openai-whisper's own decoding task and transcription loop run over ``tests/support/tiny.py``, a
model of random tables. Its random draws are replaced by ours (its own depend on the batch); all
else is its code. Needs openai-whisper 20250625 and PyTorch:

    PYTHONPATH=src:tests python scripts/make_decoding_references.py
"""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper.decoding

from max_whisper.decoding.candidates import gumbel_noise
from max_whisper.decoding.search import _draw_seed, derived_seed
from support.tiny import DIMS, MULTILINGUAL, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer, made_up_alignment

# As an attribute of the package, the module hides behind the function of its name.
transcription = importlib.import_module("whisper.transcribe")
timing = importlib.import_module("whisper.timing")
DATA = Path(__file__).parent.parent / "tests/data/decoding"


class Draws:
    """Stands in for torch.distributions.Categorical: the draws of the decode now running."""

    seed = 0
    position = 0

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def sample(self) -> torch.Tensor:
        noise = [
            gumbel_noise(_draw_seed(Draws.seed, member, Draws.position), DIMS.n_vocab)
            for member in range(len(self.logits))
        ]
        Draws.position += 1
        return (self.logits + torch.from_numpy(np.stack(noise))).argmax(dim=-1)


class TinyWhisper:
    """What openai-whisper's decoding needs of a model."""

    device = torch.device("cpu")

    def __init__(self, model: TinyModel, multilingual: bool) -> None:
        self.model = model
        self.dims = DIMS
        self.is_multilingual = multilingual
        self.num_languages = MULTILINGUAL.num_languages
        self.decodes: list[dict[str, Any]] = []

    def encoder(self, mel: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.model.features(m) for m in mel.numpy()]))

    def logits(self, tokens: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        rows = [
            [self.model.logits(row[: i + 1], features[j % len(features)].numpy()) for i in range(len(row))]
            for j, row in enumerate(tokens.tolist())
        ]
        return torch.from_numpy(np.array(rows, np.float32))

    detect_language = whisper.decoding.detect_language

    def decode(self, mel: torch.Tensor, options: Any, seed: int = 0) -> Any:
        Draws.seed = derived_seed(seed, "temperature", options.temperature)
        Draws.position = 0
        return whisper.decoding.decode(self, mel, options)


class PlainInference(whisper.decoding.Inference):
    """No cache: every pass sees whole sequences, and beams carry their past with them."""

    def __init__(self, model: TinyWhisper, initial_token_length: int) -> None:
        self.model = model

    def logits(self, tokens: torch.Tensor, audio_features: torch.Tensor) -> torch.Tensor:
        return self.model.logits(tokens, audio_features)

    def rearrange_kv_cache(self, source_indices: list[int]) -> None:
        pass


def tokenizer(
    multilingual: bool, *, num_languages: int, language: str | None = None, task: str | None = None
) -> TinyTokenizer:
    if multilingual:
        return TinyTokenizer(language or "en", task or "transcribe")
    return TinyTokenizer(None, None)


def number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def window_case(rng: random.Random, index: int) -> dict[str, Any]:
    options: dict[str, Any] = {"language": rng.choice(["en", "fr", None])}
    kind = rng.choice(["greedy", "beam", "beam", "sample", "sample"])
    if kind == "beam":
        options["beam_size"] = rng.choice([2, 3, 5])
        options["patience"] = rng.choice([None, 0.5, 1.0, 2.0])
    if kind == "sample":
        options["temperature"] = rng.choice([0.3, 0.8, 1.0])
        options["best_of"] = rng.choice([None, 1, 3, 5])
    options["length_penalty"] = rng.choice([None, None, 0.0, 0.4, 1.0])
    options["prompt"] = rng.choice([None, None, "so it goes", [1, 5, 9, 70] * 12])
    options["prefix"] = rng.choice([None, None, None, "well", [3, 3, 2]])
    options["without_timestamps"] = rng.random() < 0.25
    options["suppress_blank"] = rng.random() < 0.8
    options["suppress_tokens"] = rng.choice(["-1", "-1", "", "3,4", [1, -1]])
    options["max_initial_timestamp"] = rng.choice([1.0, None, 5.0])
    options["sample_len"] = rng.choice([None, None, 10, 40])
    options["task"] = rng.choice(["transcribe", "transcribe", "translate"])
    model = {"seed": index, "end": rng.choice([-2.0, 0.0, 2.0]), "spread": rng.choice([1.0, 1.5, 2.5])}
    key, seed, multilingual = rng.randrange(97), rng.randrange(1000), rng.random() < 0.7
    if not multilingual and options["language"] is None:
        options["language"] = "en"
    whisper_model = TinyWhisper(TinyModel(**model), multilingual)
    features = torch.full((DIMS.n_audio_ctx, DIMS.n_audio_state), float(key))
    result = whisper_model.decode(features, whisper.DecodingOptions(**options, fp16=False), seed)
    return {
        "model": model,
        "key": key,
        "seed": seed,
        "multilingual": multilingual,
        "options": options,
        "result": {
            "language": result.language,
            "tokens": result.tokens,
            "text": result.text,
            "avg_logprob": number(result.avg_logprob),
            "no_speech_prob": number(result.no_speech_prob),
            "compression_ratio": number(result.compression_ratio),
        },
    }


def rule_case(rng: random.Random, generator: np.random.Generator) -> dict[str, Any]:
    """Random sampled tokens, likely and unlikely ones, and which tokens the filters leave."""
    index = rng.choice([None, 0, 2, 10])
    tokens: list[int] = []
    for _ in range(rng.randrange(7)):
        if rng.random() < 0.5:
            tokens.append(TIMESTAMP_BEGIN + rng.randrange(DIMS.n_audio_ctx + 1))
        else:
            tokens.append(rng.randrange(TIMESTAMP_BEGIN))
    logits = generator.standard_normal(DIMS.n_vocab).astype(np.float32) * np.float32(2)
    logits[TIMESTAMP_BEGIN:] -= rng.choice([-2.0, 0.0, 2.0, 5.0])
    logits = np.round(logits, 3)
    tiny = TinyTokenizer()
    suppressed = sorted(rng.sample(range(DIMS.n_vocab), rng.randrange(9)))
    filters = [
        whisper.decoding.SuppressBlank(tiny, 1),
        whisper.decoding.SuppressTokens(suppressed),
        whisper.decoding.ApplyTimestampRules(tiny, 1, index),
    ]
    out = torch.from_numpy(logits.copy())[None]
    for each in filters:
        each.apply(out, torch.tensor([[tiny.sot, *tokens]]))
    return {
        "initial_index": index,
        "tokens": tokens,
        "suppressed": suppressed,
        "logits": [round(float(x), 3) for x in logits],
        "allowed": torch.isfinite(out[0]).nonzero()[:, 0].tolist(),
    }


class EndlessError(Exception):
    """A random model that gives back timestamps unasked can keep openai-whisper from moving on."""


def recording_case(rng: random.Random, index: int, *, words: bool = False) -> dict[str, Any] | None:
    options: dict[str, Any] = {
        "temperature": rng.choice([0.0, [0.0, 0.2, 0.6, 1.0], [0.0, 0.4], [0.6, 1.0]]),
        "condition_on_previous_text": rng.random() < 0.7,
        "compression_ratio_threshold": rng.choice([None, 1.0, 1.3, 2.4]),
        "logprob_threshold": rng.choice([None, -3.5, -2.5, -1.0]),
        "no_speech_threshold": rng.choice([None, 0.02, 0.2, 0.6]),
        "initial_prompt": rng.choice([None, None, "mind the gap", "words " * 9]),
        "carry_initial_prompt": rng.random() < 0.4,
        "clip_timestamps": rng.choice(["0", "0", "", "2,12.5", "0,10,30,48.4,50", [5.0, 60.0, 61.0]]),
    }
    decode: dict[str, Any] = {"language": rng.choice(["en", "de", None])}
    if rng.random() < 0.4:
        decode["beam_size"] = rng.choice([2, 5])
    if rng.random() < 0.5:
        decode["best_of"] = rng.choice([2, 4])
    if rng.random() < 0.2:
        decode["without_timestamps"] = True
    if rng.random() < 0.3:
        decode["sample_len"] = 12
    model = {
        "seed": 1000 + index,
        "end": rng.choice([-1.0, 1.0, 3.0]),
        "spread": rng.choice([1.0, 1.5, 2.5]),
        "silence": rng.choice([-2.0, 0.0, 3.0]),
    }
    if words:
        options["word_timestamps"] = True
        options["hallucination_silence_threshold"] = rng.choice([None, 0.5, 1.0, 2.0])
        decode["sample_len"] = 20
        decode.pop("beam_size", None)
        decode.pop("best_of", None)
    frames, mel_seed, seed = rng.randrange(200, 12000), rng.randrange(1000), rng.randrange(1000)
    clips = options["clip_timestamps"]
    seconds = [float(x) for x in clips.split(",") if x] if isinstance(clips, str) else clips
    if max(seconds, default=0) * 100 > frames:
        # openai-whisper goes on to hear silence after the recording's end; we do not.
        options["clip_timestamps"] = "0"
    mel = tiny_mel(mel_seed, frames)
    multilingual = rng.random() < 0.7
    timing.find_alignment = lambda model, tokenizer, tokens, mel, num_frames: [
        timing.WordTiming(*word) for word in made_up_alignment(tokens, num_frames, seed)
    ]
    whisper_model = TinyWhisper(TinyModel(**model), multilingual)
    plain = whisper_model.decode
    prompts: list[list[int]] = []

    def record(segment: torch.Tensor, chosen: Any) -> Any:
        # The window's place is read off its loop's frame: openai-whisper does not pass it on.
        seek = sys._getframe(2).f_locals["seek"]
        prompts.append(list(chosen.prompt or []))
        if len(prompts) > 40:
            raise EndlessError
        return plain(segment, chosen, derived_seed(seed, "seek", seek))

    whisper_model.decode = record  # type: ignore[method-assign]
    transcription.log_mel_spectrogram = lambda *args, **kwargs: torch.from_numpy(mel)
    try:
        result = transcription.transcribe(whisper_model, np.zeros(1), fp16=False, **options, **decode)
    except EndlessError:
        return None
    for segment in result["segments"]:
        if words:
            segment["words"] = [list(word.values()) for word in segment["words"]]
        else:
            segment.pop("words", None)
        for name in ("start", "end", "avg_logprob", "compression_ratio", "no_speech_prob"):
            segment[name] = number(segment[name])
    return {
        "model": model,
        "frames": frames,
        "mel_seed": mel_seed,
        "seed": seed,
        "multilingual": multilingual,
        "options": options,
        "decode_options": decode,
        "decodes": len(prompts),
        "result": result,
    }


def tiny_mel(seed: int, frames: int) -> np.ndarray:
    mel = np.random.default_rng(seed).integers(-3, 4, (DIMS.n_mels, frames)).astype(np.float32)
    return np.pad(mel, [(0, 0), (0, 3000)])


def write(name: str, cases: list[dict[str, Any]]) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (DATA / name).write_text(f"[\n{lines}\n]\n")


def main() -> None:
    torch.set_num_threads(1)
    whisper.decoding.Categorical = Draws
    whisper.decoding.PyTorchInference = PlainInference
    whisper.decoding.get_tokenizer = tokenizer
    transcription.get_tokenizer = tokenizer
    rng, generator = random.Random(20250625), np.random.default_rng(20250625)
    write("rules.json", [rule_case(rng, generator) for _ in range(100)])
    write("windows.json", [window_case(rng, index) for index in range(80)])
    recordings = [recording_case(rng, index) for index in range(50)]
    write("recordings.json", [case for case in recordings if case is not None])
    with_words = [recording_case(rng, 50 + index, words=True) for index in range(40)]
    write("words.json", [case for case in with_words if case is not None])


if __name__ == "__main__":
    main()
