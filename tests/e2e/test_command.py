"""The command as a user runs it, on real recordings with tiny.en."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from max_whisper import load_audio

DATA = Path(__file__).resolve().parent.parent / "data"
JFK = DATA / "jfk.flac"
COMMAND = [sys.executable, "-m", "max_whisper", "--model", "tiny.en"]
GREEDY = ["--beam_size", "None", "--best_of", "None", "--temperature_increment_on_fallback", "None"]


def run(folder: Path, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, input=stdin, capture_output=True, timeout=600, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """The first start on a machine compiles for minutes; that is not what is tested here."""
    command = [sys.executable, "-m", "max_whisper", "prepare", "tiny.en"]
    subprocess.run(command, check=True, capture_output=True, timeout=1200)


def test_result_is_openai_whispers(tmp_path: Path) -> None:
    golden = json.loads((DATA / "golden" / "tiny.en" / "jfk.json").read_text("utf-8"))["runs"]["greedy"]
    done = run(tmp_path, str(JFK), *GREEDY, "--condition_on_previous_text", "False")
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "jfk.json").read_text("utf-8"))
    assert written["text"] == golden["text"]
    assert [segment["tokens"] for segment in written["segments"]] == [s["tokens"] for s in golden["segments"]]
    lines = [segment["text"].strip() for segment in golden["segments"]]
    assert (tmp_path / "jfk.txt").read_text("utf-8").splitlines() == lines
    assert [line.partition("]  ")[2] for line in done.stdout.splitlines()] == lines
    assert (tmp_path / "jfk.srt").read_text("utf-8").startswith("1\n00:00:00,000 --> 00:00:07,740\n")


def test_standard_input_and_words(tmp_path: Path) -> None:
    done = run(tmp_path, "-", *GREEDY, "--word_timestamps", "True", "-f", "json", stdin=JFK.read_bytes())
    assert done.returncode == 0
    segments = json.loads((tmp_path / "stdin.json").read_text("utf-8"))["segments"]
    words = [word for segment in segments for word in segment["words"]]
    assert "".join(word["word"] for word in words) == "".join(segment["text"] for segment in segments)
    assert all(0 <= word["start"] <= word["end"] <= 11.5 for word in words)


def test_bad_recordings_among_good_ones(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no recording")
    (tmp_path / "cut.flac").write_bytes(JFK.read_bytes()[:120_000])
    write_wav(tmp_path / "silence.wav", np.zeros((32000, 1)), 16000)
    write_wav(tmp_path / "short.wav", np.full((800, 1), 900), 16000)
    tone = np.sin(np.arange(96000) / 30)[:, None] * np.linspace(100, 9000, 8)
    write_wav(tmp_path / "eight.wav", tone, 96000)
    inputs = ["empty.wav", "text.wav", "missing.wav", "cut.flac", "silence.wav", "short.wav", "eight.wav"]
    done = run(tmp_path, *inputs, str(JFK), *GREEDY, "-f", "json", "-o", "out")
    assert done.returncode == 1
    for message in (
        "empty.wav: the file is empty",
        "text.wav: not a recording",
        "missing.wav: no such file",
        "warning: cut.flac: the file is damaged",
        "3 inputs failed",
    ):
        assert f"max-whisper: {message}" in done.stderr
    assert "Traceback" not in done.stderr
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in (tmp_path / "out").iterdir()}
    assert set(found) == {"cut", "silence", "short", "eight", "jfk"}
    assert "fellow Americans" in found["jfk"]["text"]
    assert "fellow Americans" in found["cut"]["text"]
    for result in found.values():
        assert result["text"] == "".join(segment["text"] for segment in result["segments"])


def test_interrupt_leaves_finished_files_whole(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.flac").write_bytes(JFK.read_bytes())
    process = subprocess.Popen(
        [*COMMAND, "first.flac", "second.flac", "third.flac", *GREEDY],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        # A shell's background processes ignore the signal, and so would this one.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    finished = tmp_path / "first.json"  # the last that is written of the five
    deadline = time.monotonic() + 300
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.decode() == "max-whisper: interrupted\n"
    assert "fellow Americans" in json.loads(finished.read_text("utf-8"))["text"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (tmp_path / "third.txt").exists()


def test_full_disk(tmp_path: Path) -> None:
    full = tmp_path / "jfk.txt"
    full.write_text("what was there before\n")
    # A limit on the size of files makes writing fail as a full disk does.
    limited = f"trap '' XFSZ; ulimit -f 0; exec {' '.join(COMMAND)} {JFK} {' '.join(GREEDY)} -f txt"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["sh", "-c", limited], cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert b"cannot write jfk.txt: File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["jfk.txt"]
    assert full.read_text() == "what was there before\n"


def test_listens_to_a_pipe(tmp_path: Path) -> None:
    samples = (load_audio(JFK) * 32768).astype("<i2").tobytes()
    process = subprocess.Popen(
        [*COMMAND[:3], "listen", *COMMAND[3:], "--vad_filter", "False", "-f", "json"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(samples[: 9 * 32000])
    process.stdin.flush()
    # Words are there before the input ends, and stay as they are.
    begun = os.read(process.stdout.fileno(), 10)
    process.stdin.write(samples[9 * 32000 :])
    out, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, b"")
    result = json.loads((tmp_path / "stdin.json").read_text("utf-8"))
    assert (begun + out).decode().split() == result["text"].split()
    assert "what you can do for your country" in result["text"]
    words = [word for segment in result["segments"] for word in segment["words"]]
    ends = [word["end"] for word in words]
    assert ends == sorted(ends) and 9 < ends[-1] <= 11
