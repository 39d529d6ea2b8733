"""The recordings, and what is said in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import BenchmarkError
from benchmarks.prompt_sets import fetch, read_prompts, spread
from max_whisper.audio import SAMPLE_RATE, load_audio

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
DEFAULT = (DATA / "jfk.flac", DATA / "prompts_en.flac")
MANY = (*DEFAULT, *sorted((DATA / "librivox").glob("*.flac")))


@dataclass(frozen=True)
class Clip:
    """A recording.

    Attributes:
        name: The file's, without its ending, or the prompt's.
        samples: A file of its 16 kHz mono float32 samples, which all engines are given.
        seconds: How long it is.
        text: What is said, or None if nobody wrote it down.
    """

    name: str
    samples: Path
    seconds: float
    text: str | None


def read_clips(paths: Sequence[Path], folder: Path) -> list[Clip]:
    """Decodes recordings.

    Args:
        paths: Their files; the text is in a file of the same name that ends in ``.txt``.
        folder: Where samples are written.

    Raises:
        BenchmarkError: Two have the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len({path.stem for path in paths}) < len(paths):
        raise BenchmarkError("two clips have the same name")
    return [_read(path, folder) for path in paths]


def prompt_clips(count: int, cache: Path, folder: Path) -> list[Clip]:
    """So many English prompts of Debian's packages, evenly spread over all of them; see :mod:`.prompt_sets`.

    Raises:
        BenchmarkError: The packages can't be had, or there are fewer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prompts = list(read_prompts("en", fetch("en", cache)))
    if count > len(prompts):
        raise BenchmarkError(f"there are {len(prompts)} English prompts, not {count}")
    chosen = spread(prompts, count)
    return [_kept(prompt.name.replace("/", "-"), prompt.samples, prompt.text, folder) for prompt in chosen]


def _read(path: Path, folder: Path) -> Clip:
    return _kept(path.stem, load_audio(path), _text(path), folder)


def _kept(name: str, samples: NDArray[np.float32], text: str | None, folder: Path) -> Clip:
    file = folder / f"{name}.npy"
    np.save(file, samples)
    return Clip(name, file, len(samples) / SAMPLE_RATE, text)


def _text(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    with (DATA / "librivox" / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if (DATA / row["file"]).resolve() == path.resolve():
                return row["text"]
    return None
