"""Telephone prompts in several languages, with what is said in them, from Debian's packages.

``asterisk-core-sounds-XX-g722`` has the recordings (16 kHz, one speaker a language), and
``asterisk-core-sounds-XX`` a list of what is said, one prompt a line, in its folder of documents.
A prompt is left out where

- its folder is ``digits``, ``letters``, ``phonetic`` or ``silence``;
- its text has brackets of any kind: a tone is described, or words that are not said are noted;
- its text has fewer than three words of at least two letters: N B S, "Press 1 for";
- its text has the name of a prompt and a colon in it: two lines of the list have become one;
- its text has a question mark before a small letter: what a letter with an accent has become;
- an earlier prompt of the language has the same text, but for case and punctuation;
- there is no recording of that name, or it is shorter than one second.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.environments import BenchmarkError
from max_whisper.audio import SAMPLE_RATE, load_audio

LANGUAGES = ("en", "es", "fr", "it", "ru")
#: Fewer than that are no set to judge by.
LEAST = 100
#: Silence between prompts of a joined recording, and how long one gets, in seconds.
GAP = 0.5
JOINED_SECONDS = 120

_NO_SPEECH = {"digits", "letters", "phonetic", "silence"}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Prompt:
    """A recording of some words.

    Attributes:
        name: Its path in the package, without the ending.
        text: What is said.
        samples: (n,) float32, 16 kHz.
    """

    name: str
    text: str
    samples: np.ndarray


@dataclass(frozen=True)
class Recording:
    """What is transcribed in one go.

    Attributes:
        set: The prompts' language, or the name of a clip.
        language: What is spoken.
        texts: What is said, in the pieces that errors are counted by.
        samples: (n,) float32, 16 kHz.
    """

    set: str
    language: str
    texts: tuple[str, ...]
    samples: np.ndarray


def fetch(language: str, cache: Path) -> Path:
    """The unpacked packages of a language; ``version`` in the folder is theirs.

    apt verifies what it downloads; what is in the cache already is taken as it is.

    Args:
        language: One of :data:`LANGUAGES`.
        cache: Where folders are kept.

    Raises:
        BenchmarkError: There is no apt, or it can't get them.
    """
    folder = cache / language
    if folder.is_dir():
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise BenchmarkError(
                f"the prompts are packages of Debian, and this system has no {tool}; "
                f"copy {cache} from one that has"
            )
    names = [f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-g722"]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        unpacked = Path(temporary) / "unpacked"
        hint = "; does 'apt-get update' help?"
        _run(["apt-get", "download", *names], Path(temporary), hint)
        for file in sorted(Path(temporary).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(file), str(unpacked)], Path(temporary))
            version = _run(["dpkg-deb", "-f", str(file), "Version"], Path(temporary))
        (unpacked / "version").write_text(version)
        unpacked.rename(folder)
    return folder


def _run(command: Sequence[str], folder: Path, hint: str = "") -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed{hint}\n{done.stderr.strip()}")
    return done.stdout.strip()


def read_prompts(language: str, folder: Path) -> Iterator[Prompt]:
    """The prompts of a language, see above, in the list's order.

    Args:
        language: Its code.
        folder: See :func:`fetch`.

    Raises:
        BenchmarkError: The packages are not what they were.
    """
    package = f"asterisk-core-sounds-{language}"
    listed = folder / "usr/share/doc" / package / f"core-sounds-{language}.txt.gz"
    voices = sorted((folder / "usr/share/asterisk/sounds").glob(f"{language}_*"))
    if not listed.is_file() or len(voices) != 1:
        raise BenchmarkError(
            f"{folder} does not hold {package}'s list and one voice; remove it to fetch anew"
        )
    with gzip.open(listed, "rt", encoding="utf-8-sig") as file:
        texts = speech(parse(file))
    for name, text in texts.items():
        sound = voices[0] / f"{name}.g722"
        if sound.is_file() and len(samples := load_audio(sound)) >= SAMPLE_RATE:
            yield Prompt(name, text, samples)


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Names and texts of a list; of a name that comes twice, the first."""
    texts: dict[str, str] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts.setdefault(name.strip(), text.strip())
    return texts


def speech(texts: Mapping[str, str]) -> dict[str, str]:
    """Those whose text is what is said and long enough, each text once; see above."""
    kept: dict[str, str] = {}
    seen = set()
    for name, text in texts.items():
        words = re.findall(r"[^\W_]+", text.lower())
        if (
            name.split("/")[0] in _NO_SPEECH
            or re.search(r"[\[\](){}<>]", text)
            or sum(len(word) > 1 and word.isalpha() for word in words) < 3
            or any(other in texts for other in re.findall(r"([^\s:.]+):", text))
            or any(letter.islower() for letter in re.findall(r"\? *(\w)", text))
            or tuple(words) in seen
        ):
            continue
        seen.add(tuple(words))
        kept[name] = text
    return kept


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many of them, evenly spread, in order; all if there are no more or count is 0."""
    if count == 0 or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def recordings(language: str, prompts: Sequence[Prompt], alone: bool) -> list[Recording]:
    """The prompts as they are transcribed: each alone, or joined to about two minutes."""
    gap = np.zeros(round(GAP * SAMPLE_RATE), np.float32)
    made: list[Recording] = []
    group: list[Prompt] = []
    for prompt in prompts:
        group.append(prompt)
        length = sum(len(each.samples) + len(gap) for each in group)
        if alone or prompt is prompts[-1] or length >= JOINED_SECONDS * SAMPLE_RATE:
            parts = [part for each in group for part in (each.samples, gap)]
            texts = tuple(each.text for each in group)
            made.append(Recording(language, language, texts, np.concatenate(parts)))
            group = []
    return made
