"""Makes the reference data that the parity tests hold max-whisper to.

Run it with a Python that has openai-whisper and PyTorch; max-whisper need not be installed there.

    python scripts/make_reference.py layers tiny.en=tiny.en.pt base=base.pt \
        --audio tests/data/jfk.flac --out tests/data/reference
    python scripts/make_reference.py golden base=base.pt --audio CLIP... \
        --runs greedy,greedy_condition,greedy_words,beam5 --language en --out DIRECTORY
    python scripts/make_reference.py compact GOLDEN.json... --out DIRECTORY

``layers`` writes an ``.npz`` a model: for every stage of one forward pass over the first 30 s
window, a sample of rows and columns in float32, the mean, standard deviation and greatest
magnitude of the whole array, how far rounding alone moves it (its
distance from the same pass in float64), and for the main stages one value that every channel of a row enters
with a random sign, so that no position goes unchecked. ``golden`` transcribes whole recordings.
``compact`` rewrites golden files with full segments into the form that the tests read.

All is computed in float32 on the CPU, with one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS, COLUMNS, LOGIT_COLUMNS = 12, 44, 192
RUNS: dict[str, dict[str, Any]] = {
    "greedy": {"condition_on_previous_text": False},
    "greedy_condition": {"condition_on_previous_text": True},
    "greedy_words": {"condition_on_previous_text": False, "word_timestamps": True},
    "greedy_condition_words": {"condition_on_previous_text": True, "word_timestamps": True},
    "beam5": {"condition_on_previous_text": False, "beam_size": 5},
    "beam5_condition": {"condition_on_previous_text": True, "beam_size": 5},
    "beam5_words": {"condition_on_previous_text": False, "beam_size": 5, "word_timestamps": True},
}
PROJECTED = re.compile(r"mel|conv\d|encoder\.blocks\.\d+|ln_post|cross\.\d+\.(key|value)")


def stages_module() -> ModuleType:
    """The lab's reference code, by its path: the package itself need not be importable here."""
    path = ROOT / "src/max_whisper/parity/references/openai_stages.py"
    spec = importlib.util.spec_from_file_location("openai_stages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_models(pairs: list[str]) -> dict[str, Any]:
    import torch
    import whisper

    torch.set_num_threads(1)
    stages, models = stages_module(), {}
    for name, path in (pair.split("=", 1) for pair in pairs):
        models[name] = stages.load(path)
        # Known to openai-whisper by the model's name alone; without them word times are others.
        models[name].set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    return models


def first_window(model: Any, audio: Path) -> tuple[Any, list[int]]:
    """The first window as ``transcribe`` sees it, zeros after the recording's end, and the tokens that
    the decoder is fed: sot sequence and result."""
    import whisper
    from whisper.tokenizer import get_tokenizer

    samples = whisper.load_audio(str(audio))
    mel = whisper.log_mel_spectrogram(samples, model.dims.n_mels, padding=whisper.audio.N_SAMPLES)
    mel = whisper.pad_or_trim(mel[:, : -whisper.audio.N_FRAMES], whisper.audio.N_FRAMES)
    result = model.transcribe(samples, language="en", temperature=0.0, fp16=False)
    tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language="en")
    tokens = [token for segment in result["segments"] if segment["seek"] == 0 for token in segment["tokens"]]
    return mel.numpy(), [*tokenizer.sot_sequence, *tokens]


def sample(shape: tuple[int, int], columns: int) -> tuple[Any, Any]:
    """Row and column indices: both ends, and others at random but the same for a shape."""
    random = np.random.default_rng(shape[0] * 100003 + shape[1])

    def pick(size: int, count: int) -> Any:
        ends = np.unique([0, 1, size - 2, size - 1])
        if size <= count:
            return np.arange(size)
        others = random.choice(np.arange(2, size - 2), count - len(ends), replace=False)
        return np.sort(np.concatenate([ends, others])).astype(np.int32)

    return pick(shape[0], ROWS), pick(shape[1], columns)


def signs(channels: int) -> Any:
    """The vector that projects a row: random signs over the square root of their number."""
    random = np.random.default_rng(channels)
    return (random.integers(0, 2, channels) * 2.0 - 1.0) / np.sqrt(channels)


def summarise(name: str, array: Any, rounding: float) -> dict[str, Any]:
    exact = array.astype(np.float64)
    rows, columns = sample(array.shape, LOGIT_COLUMNS if name == "logits" else COLUMNS)
    kept = {
        "shape": np.array(array.shape, dtype=np.int32),
        "rows": rows.astype(np.int32),
        "columns": columns.astype(np.int32),
        "values": array[np.ix_(rows, columns)],
        "moments": np.array([exact.mean(), exact.std(), np.abs(exact).max(), rounding]),
    }
    if PROJECTED.fullmatch(name):
        kept["projection"] = (exact @ signs(array.shape[1])).astype(np.float32)
    if name == "logits":
        top = exact.max(axis=1)
        kept["argmax"] = exact.argmax(axis=1).astype(np.int32)
        kept["logsumexp"] = top + np.log(np.exp(exact - top[:, None]).sum(axis=1))
    return kept


def wanted(name: str, model: Any) -> bool:
    """Whether a stage is kept: inside blocks, the first and the last of each half alone."""
    inside = re.fullmatch(r"(encoder|decoder)\.blocks\.(\d+)\.(\w+)", name)
    if inside is None:
        return True
    last = (model.dims.n_audio_layer if inside.group(1) == "encoder" else model.dims.n_text_layer) - 1
    return inside.group(3) == "cross_query" or int(inside.group(2)) in (0, last)


def make_layers(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    (audio,) = arguments.audio
    for name, model in load_models(arguments.models).items():
        mel, tokens = first_window(model, audio)
        arrays: dict[str, Any] = {"tokens": np.array(tokens, dtype=np.int32)}
        stages = stages_module().capture(model, mel, tokens)
        rounding = stages_module().rounding(model, mel, tokens, stages)
        for stage, array in stages.items():
            if wanted(stage, model):
                for kind, value in summarise(stage, array, rounding[stage]).items():
                    arrays[f"{stage}:{kind}"] = value
        path = arguments.out / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        print(path, path.stat().st_size, "bytes", len(tokens), "tokens")


def compact(golden: dict[str, Any]) -> dict[str, Any]:
    """Drops what the tests do not read, and writes words as lists."""
    runs = {}
    for name, run in golden["runs"].items():
        segments = []
        for segment in run["segments"]:
            kept = {key: value for key, value in segment.items() if key not in ("id", "words")}
            if "words" in segment:
                kept["words"] = [
                    [word["word"], word["start"], word["end"], word["probability"]]
                    for word in segment["words"]
                ]
            segments.append(kept)
        runs[name] = {"options": run["options"], "text": run["text"], "segments": segments}
        if "language" in run:
            runs[name]["language"] = run["language"]
    kept_keys = ("model", "clip", "seconds", "engine", "torch", "language")
    return {key: golden[key] for key in kept_keys} | {"runs": runs}


def write_compact(golden: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(compact(golden)), ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('{"seek"', '\n{"seek"') + "\n", encoding="utf-8")
    print(path, path.stat().st_size, "bytes")


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def make_golden(arguments: argparse.Namespace) -> None:
    import torch
    import whisper

    for name, model in load_models(arguments.models).items():
        for audio in arguments.audio:
            samples = whisper.load_audio(str(audio))
            golden: dict[str, Any] = {
                "model": name,
                "clip": audio.stem,
                "seconds": len(samples) / whisper.audio.SAMPLE_RATE,
                "engine": f"openai-whisper {whisper.__version__}",
                "torch": torch.__version__,
                "language": arguments.language,
                "runs": {},
            }
            for run in arguments.runs.split(","):
                options = {**RUNS[run], "temperature": 0.0}
                result = model.transcribe(samples, fp16=False, language=arguments.language, **options)
                golden["runs"][run] = {"options": options, **result}
            write_compact(golden, arguments.out / name / f"{audio.stem}.json")


def make_compact(arguments: argparse.Namespace) -> None:
    for path in arguments.golden:
        golden = json.loads(path.read_text(encoding="utf-8"))
        write_compact(golden, arguments.out / golden["model"] / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run in (("layers", make_layers), ("golden", make_golden)):
        command = commands.add_parser(name)
        command.add_argument("models", nargs="+", metavar="NAME=FILE")
        command.add_argument("--audio", nargs="+", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.set_defaults(run=run)
        if name == "golden":
            command.add_argument("--runs", default="greedy,greedy_condition,beam5")
            command.add_argument("--language", default=None, help="detected where left out")
    command = commands.add_parser("compact")
    command.add_argument("golden", nargs="+", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=make_compact)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
