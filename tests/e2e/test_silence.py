"""A minute each of what is not speech, through the command: with the voice activity filter, no word."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.sounds import SOUNDS  # noqa: E402


def test_where_nobody_speaks_there_is_no_word(tmp_path: Path) -> None:
    names = []
    for sound, make in SOUNDS.items():
        names.append(f"{sound.replace(' ', '-')}.wav")
        with wave.open(str(tmp_path / names[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(np.round(make(60) * 32767).astype("<i2").tobytes())
    command = [sys.executable, "-m", "max_whisper", *names, "--model", "tiny.en", "--vad_filter", "True"]
    done = subprocess.run([*command, "-f", "json"], cwd=tmp_path, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    for name in names:
        written = json.loads((tmp_path / Path(name).with_suffix(".json")).read_text("utf-8"))
        assert written == {"text": "", "segments": [], "language": "en"}
