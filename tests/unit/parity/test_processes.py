"""A reference that cannot run ends in an error that says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from max_whisper.errors import OptionError
from max_whisper.parity import ctranslate2_writer
from max_whisper.parity.comparing import compare
from max_whisper.parity.measure import ParityError
from max_whisper.parity.processes import Setting, Workshop
from support.random_checkpoint import tiny_checkpoint

SILENCE = np.zeros(16000, np.float32)
REPLY = {"result": {"text": " yes", "language": "en", "segments": []}, "load_seconds": 0.1, "seconds": 0.2}


def python(folder: Path, script: str) -> str:
    """An executable that stands for the references' Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def answering(folder: Path, reply: dict[str, object]) -> str:
    """A reference that gives one reply, whatever it is asked."""
    (folder / "answer.json").write_text(json.dumps(reply))
    code = (
        "import json,shutil,sys; r = json.load(open(sys.argv[1])); "
        f"shutil.copy({str(folder / 'answer.json')!r}, r['reply'])"
    )
    return python(folder, f'exec "{sys.executable}" -S -c "{code}" "$2"')


def workshop(folder: Path, reference_python: str) -> Workshop:
    exchange = folder / "exchange"
    exchange.mkdir()
    return Workshop(exchange, tiny_checkpoint(str(folder / "none")), Setting(reference_python))


def test_not_installed(tmp_path: Path) -> None:
    bare = python(tmp_path, f'exec "{sys.executable}" -S "$@"')
    with pytest.raises(ParityError, match=r"openai-cpu: \w+ is not installed for .*python"):
        workshop(tmp_path, bare).transcribe("openai-cpu", SILENCE, {})


def test_no_such_python(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="nowhere/python cannot be run: No such file"):
        workshop(tmp_path, "nowhere/python").transcribe("openai-cpu", SILENCE, {})


def test_killed(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"crashed \(killed by SIGKILL, as the system does when memory"):
        workshop(tmp_path, python(tmp_path, "kill -9 $$")).transcribe("openai-cpu", SILENCE, {})


def test_crashed_with_a_message(tmp_path: Path) -> None:
    broken = python(tmp_path, "echo the library broke >&2; exit 3")
    with pytest.raises(ParityError, match=r"crashed \(exit status 3\) the library broke"):
        workshop(tmp_path, broken).transcribe("openai-cpu", SILENCE, {})


def test_half_a_reply_is_no_reply(tmp_path: Path) -> None:
    half = python(tmp_path, 'printf \'{"res\' > "$(dirname $2)/reply-1"')
    with pytest.raises(ParityError, match="crashed"):
        workshop(tmp_path, half).transcribe("openai-cpu", SILENCE, {})


def test_an_error_of_the_reference_is_told_as_it_is(tmp_path: Path) -> None:
    refusing = answering(tmp_path, {"error": "AssertionError: incorrect audio shape (model.py:197)"})
    with pytest.raises(ParityError, match="openai-cpu: AssertionError: incorrect audio shape"):
        workshop(tmp_path, refusing).stages("openai-cpu", np.zeros((80, 1500), np.float32), [1])


def test_a_checkpoint_that_cannot_be_written_for_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctranslate2_writer, "vocabulary_folders", lambda cache: [])
    monkeypatch.setattr("max_whisper.parity.exchange.tokenizer_of", lambda *_: None)
    with pytest.raises(ParityError, match=r"needs the English tokenizer\.json"):
        workshop(tmp_path, sys.executable).transcribe("transformers", SILENCE, {})


def test_unknown_backend(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no backend 'whisperx'; the backends are max, numpy"):
        workshop(tmp_path, sys.executable).transcribe("whisperx", SILENCE, {})


def test_our_side_tells_its_errors_too(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="numpy: there is no checkpoint at"):
        workshop(tmp_path, sys.executable).transcribe("numpy", SILENCE, {})


def test_a_failed_backend_is_an_error_in_its_row(tmp_path: Path) -> None:
    shop = workshop(tmp_path, answering(tmp_path, {**REPLY, "peak_bytes": 1 << 20}))
    report = compare(shop, SILENCE, ["numpy", "openai-cpu"], "openai-cpu", {})
    failed, sound = report.rows
    assert failed.error is not None and failed.text is None and failed.word_error_rate is None
    assert (sound.text, sound.word_error_rate, sound.seconds, sound.rtfx) == (" yes", 0, 0.2, 5)
    assert not report.passed and "there is no checkpoint" in report.verdict


def test_a_failed_reference_fails_the_comparison(tmp_path: Path) -> None:
    shop = workshop(tmp_path, python(tmp_path, "exit 1"))
    report = compare(shop, SILENCE, ["openai-gpu", "openai-cpu"], "openai-cpu", {})
    assert report.reference_text is None
    assert not report.passed
    assert all(row.word_error_rate is None for row in report.rows)
