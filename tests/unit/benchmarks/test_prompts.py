"""Which prompts are kept, how they are joined, and what the comparison makes of counted errors."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import wave

import numpy as np
import pytest
from benchmarks import prompt_sets, prompts
from benchmarks.environments import BenchmarkError
from benchmarks.processes import WORKERS
from benchmarks.prompt_sets import Prompt, Recording

LIST = """; Sounds in a language

one: Please hold the line.
tone: [ascending tones]
note: IAX (note: it does not say "2")
short: Press 1 for
letters/at: a letter at last
nbs: N B S
lost: La chiamata non pu? essere completata.
asked: Who is calling? Please say your name.
run-on: Please try again. short: and this, too, please
other: Now: please hold the door.
again: ...please HOLD the line
one: another text of that name
"""


def test_a_list_is_read() -> None:
    texts = prompt_sets.parse(LIST.splitlines(keepends=True))
    assert list(texts)[:3] == ["one", "tone", "note"]
    assert texts["one"] == "Please hold the line."
    assert texts["note"] == 'IAX (note: it does not say "2")'


def test_what_is_kept_is_said_in_full_and_once() -> None:
    kept = prompt_sets.speech(prompt_sets.parse(LIST.splitlines()))
    assert list(kept) == ["one", "asked", "other"]


def _write_sound(path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(np.ones(round(16000 * seconds), np.int16).tobytes())


def test_texts_are_paired_with_recordings(tmp_path) -> None:
    folder = tmp_path / "usr/share/doc/asterisk-core-sounds-xx"
    folder.mkdir(parents=True)
    with gzip.open(folder / "core-sounds-xx.txt.gz", "wt", encoding="utf-8-sig") as file:
        file.write(LIST)
    with pytest.raises(BenchmarkError, match="does not hold asterisk-core-sounds-xx's list and one voice"):
        list(prompt_sets.read_prompts("xx", tmp_path))
    sounds = tmp_path / "usr/share/asterisk/sounds/xx_YY_f_Somebody"
    _write_sound(sounds / "one.g722", 1.5)
    _write_sound(sounds / "asked.g722", 0.9)
    (found,) = prompt_sets.read_prompts("xx", tmp_path)
    assert (found.name, found.text) == ("one", "Please hold the line.")
    assert found.samples.shape == (24000,)
    assert found.samples.dtype == np.float32


def test_without_apt_the_error_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"this system has no apt-get; copy .*cache from one that has"):
        prompt_sets.fetch("en", tmp_path / "cache")
    (tmp_path / "cache" / "en").mkdir(parents=True)
    assert prompt_sets.fetch("en", tmp_path / "cache") == tmp_path / "cache" / "en"


def test_a_choice_is_spread_evenly() -> None:
    assert prompt_sets.spread(range(10), 4) == [0, 2, 5, 7]
    assert prompt_sets.spread("abc", 3) == prompt_sets.spread("abc", 0) == ["a", "b", "c"]


def test_prompts_are_joined_with_gaps() -> None:
    given = [Prompt(str(n), f"text {n}", np.full(50 * 16000, n, np.float32)) for n in range(1, 5)]
    first, second = prompt_sets.recordings("es", given, alone=False)
    assert first.texts == ("text 1", "text 2", "text 3")
    assert second.texts == ("text 4",)
    assert (first.set, first.language) == ("es", "es")
    assert len(first.samples) == 3 * 50.5 * 16000
    assert first.samples[[0, 800000, 808000, 1615999, 1616000]].tolist() == [1, 0, 2, 0, 3]
    alone = prompt_sets.recordings("es", given, alone=True)
    assert [each.texts for each in alone] == [("text 1",), ("text 2",), ("text 3",), ("text 4",)]


def test_errors_are_counted_where_they_are(tmp_path) -> None:
    pytest.importorskip("jiwer")
    given = [
        ["en", ["Press one.", "It's the end of it"], "press 1 it is and of it now"],
        ["es", ["Su contrasena,", "por favor."], "Su contraseña bien por"],
    ]
    (tmp_path / "given.json").write_text(json.dumps(given))
    worker = WORKERS / "word_errors.py"
    subprocess.run([sys.executable, worker, tmp_path / "given.json", tmp_path / "found.json"], check=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == [[[0, 2], [3, 6]], [[0, 2], [2, 2]]]


def _recording(name: str, language: str) -> Recording:
    return Recording(name, language, ("a b",), np.zeros(16000, np.float32))


def test_counts_are_pooled_over_languages_and_apart_from_clips() -> None:
    given = [_recording("en", "en"), _recording("talk", "en"), _recording("fr", "fr"), _recording("en", "en")]
    found = prompts.by_set(given, [[[1, 2]], [[2, 2]], [[0, 2], [1, 3]], [[0, 4]]])
    assert found == {
        "en": [[1, 2], [0, 4]],
        "fr": [[0, 2], [1, 3]],
        prompts.ALL: [[1, 2], [0, 4], [0, 2], [1, 3]],
        "talk": [[2, 2]],
    }


def test_a_recording_that_is_heard_often_counts_with_all_that_was_heard() -> None:
    first, second = [[[1, 60], [0, 5]], [[2, 60]]], [[[3, 60], [0, 5]], [[0, 60]]]
    assert prompts.together(first, 2) == first
    both = prompts.together([*first, *second], 2)
    assert both == [[[4, 120], [0, 10]], [[2, 120]]]
    # As many stretches as of one time: the times do not err by themselves.
    exact, other = [[0, 60], [0, 60]], [[6, 60], [0, 60]]
    twice = [[2 * value for value in piece] for piece in other]
    once = prompts.difference(exact, other)
    assert prompts.difference([[0, 120], [0, 120]], twice, shifts=2) == once


def test_difference_and_its_error() -> None:
    exact = [[1, 60]] * 100
    assert prompts.difference(exact, exact) == {"difference": 0, "error": 0}
    # One word more wrong in each of 20 stretches in 100, one less in 10: as a mean of 100 values.
    other = [[2, 60]] * 20 + [[0, 60]] * 10 + [[1, 60]] * 70
    found = prompts.difference(exact, other)
    values = np.repeat([1.0, -1.0, 0.0], [20, 10, 70])
    assert found["difference"] == pytest.approx(100 * 0.1 / 60)
    assert found["error"] == pytest.approx(100 * values.std(ddof=1) / 10 / 60)


def test_pieces_of_a_stretch_err_together() -> None:
    whole = prompts.difference([[0, 60], [0, 60]], [[6, 60], [0, 60]])
    pieces = prompts.difference([[0, 20]] * 6, [[2, 20]] * 3 + [[0, 20]] * 3)
    assert pieces == whole
    assert whole["error"] > 0


def _runs(worse: int) -> list[dict]:
    counts = {"en": [[1, 500]], "fr": [[9, 500]], prompts.ALL: [[1, 500], [9, 500]]}
    other = {"en": [[1 + worse, 500]], "fr": [[9, 500]], prompts.ALL: [[1 + worse, 500], [9, 500]]}
    return [
        {"model": "base", "precision": "float32", "counts": counts},
        {"model": "base", "precision": "int8", "counts": other},
    ]


def test_a_precision_fails_over_all_languages_and_not_on_one() -> None:
    # Two words in 1000 are 0.2 points, in 500 they are 0.4.
    assert prompts.failures(prompts.compared(_runs(worse=2)), 0.2) == []
    found = prompts.failures(prompts.compared(_runs(worse=3)), 0.2)
    assert found == ["base int8, all languages: +0.30 points"]


def test_the_table() -> None:
    rows = prompts.compared(_runs(worse=3))
    results = {
        "processor": "A processor",
        "when": "2026-11-26T00:00:00",
        "alone": False,
        "shifts": 3,
        "seconds": {"en": 100.4, "fr": 200.0},
        "rows": rows,
        "limit": 0.2,
        "failed": prompts.failures(rows, 0.2),
    }
    text = prompts.report(results)
    assert "recordings of two minutes, each heard 3 times, 30 ms apart: en 100 s, fr 200 s." in text
    assert "| precision | en, 500 words | fr, 500 words | all languages, 1000 words |" in text
    assert "| float32 | 0.20 | 1.80 | 1.00 |" in text
    assert "| int8 | 0.80 (+0.60 ± 0.00) | 1.80 (+0.00 ± 0.00) | 1.30 (+0.30 ± 0.30) |" in text
    assert text.endswith("by more than 0.2 points: base int8, all languages: +0.30 points.\n")
