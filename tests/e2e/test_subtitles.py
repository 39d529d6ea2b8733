"""Subtitles of a call with tiny.en: speakers by channel, clauses, reading times, karaoke."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from max_whisper.audio import load_audio

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("Kennedy", "Reader")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "max_whisper", "--model", "tiny.en", *arguments]
    command += ["--beam_size", "None", "--best_of", "None", "--temperature_increment_on_fallback", "None"]
    command += ["--word_timestamps", "True", "--condition_on_previous_text", "False"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=True)


def seconds(clock: str) -> float:
    """A time of SubRip."""
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo recording in which two people talk at the same time, and a folder for what is made of it."""
    folder = tmp_path_factory.mktemp("call")
    left = load_audio(DATA / "jfk.flac")
    right = np.zeros_like(left)
    reader = load_audio(DATA / "librivox" / "0870.flac")
    right[32000 : 32000 + len(reader)] = reader
    samples = (np.stack([left, right], axis=1) * 32768).astype("<i2")
    with wave.open(str(folder / "call.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    subprocess.run(
        [sys.executable, "-m", "max_whisper", "prepare", "tiny.en"],
        check=True,
        capture_output=True,
        timeout=1200,
    )
    return folder


def test_speakers_by_channel(call: Path) -> None:
    done = run(call, "call.wav", "--multichannel", "True", "--speaker_names", ",".join(NAMES))
    assert done.stderr == ""
    result = json.loads((call / "call.json").read_text("utf-8"))
    golden = json.loads((DATA / "golden" / "tiny.en" / "jfk.json").read_text("utf-8"))["runs"]["greedy_words"]
    kennedy, reader = ([s for s in result["segments"] if s["speaker"] == name] for name in NAMES)
    assert [s["tokens"] for s in kennedy] == [s["tokens"] for s in golden["segments"]]
    words = [(w["word"], w["start"], w["end"]) for s in kennedy for w in s["words"]]
    wanted = [(word[0], word[1], word[2]) for s in golden["segments"] for word in s["words"]]
    assert [word for word, *_ in words] == [word for word, *_ in wanted]
    assert np.allclose([times for _, *times in words], [times for _, *times in wanted], atol=0.0101)
    assert "John Dashwood" in result["speakers"][1]["text"] and reader[0]["start"] >= 1.5
    starts = [segment["start"] for segment in result["segments"]]
    assert starts == sorted(starts)
    assert [s["id"] for s in result["segments"]] == list(range(len(starts)))
    for line, segment in zip(done.stdout.splitlines(), result["segments"], strict=True):
        assert line.endswith(f"]  {segment['speaker']}: {segment['text'].strip()}")
    assert (call / "call.txt").read_text().splitlines()[0].startswith("Kennedy: ")


def test_clauses_and_times_to_read(call: Path) -> None:
    limits = "--max_chars_per_second 20 --min_cue_duration 0.833 --max_cue_duration 7 --min_cue_gap 0.083"
    layout = ("--break_at_clauses", "True", *limits.split())
    run(call, "call.wav", "--multichannel", "True", "--output_format", "ass", *layout)
    run(call, str(DATA / "jfk.flac"), "--output_format", "srt", *layout)
    cues = (call / "jfk.srt").read_text("utf-8").split("\n\n")[:-1]
    times = []
    for cue in cues:
        _, clock, *lines = cue.split("\n")
        assert 1 <= len(lines) <= 2 and all(len(line) <= 42 for line in lines)
        start, end = map(seconds, clock.split(" --> "))
        assert 0.832 <= end - start <= 7.001
        assert len(" ".join(lines)) / (end - start) <= 20.01
        times.append((start, end))
    assert len(times) >= 2
    assert all(after[0] - before[1] >= 0.082 for before, after in pairwise(times))

    events = [
        line.split(",", 9)
        for line in (call / "call.ass").read_text("utf-8").splitlines()
        if line.startswith("Dialogue: ")
    ]
    assert {event[4] for event in events} == {"Speaker 1", "Speaker 2"}
    for event in events:
        text = event[9]
        assert text.startswith(f"{event[4]}: ")
        sung = re.sub(r"\{\\k\d+\}", "", text)
        assert len(re.findall(r"\\k\d+\}[^{]", text)) == len(re.sub(r"\\N", " ", sung).split()) - 2
        assert all(len(line) <= 42 for line in sung.split(r"\N"))
