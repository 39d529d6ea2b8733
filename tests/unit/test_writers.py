"""Files as openai-whisper's writers make them, and what happens where they cannot be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from max_whisper.errors import MaxWhisperError, OptionError, OutputError
from max_whisper.utils import (
    compression_ratio,
    exact_div,
    format_timestamp,
    get_writer,
    make_safe,
    optional_float,
    optional_int,
    str2bool,
)
from max_whisper.writers import ALL, FORMATS

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "text" / "writers.json").read_text("utf-8"))
RESULT: dict[str, Any] = {
    "text": " Hi.",
    "segments": [{"start": 0.0, "end": 1.0, "text": " Hi."}],
    "language": "en",
}


@pytest.mark.parametrize("case", GOLDEN["written"], ids=lambda case: f"{case['result']}-{case['layout']}")
def test_files_equal_openai_whispers(case: dict[str, Any], tmp_path: Path) -> None:
    result = GOLDEN["results"][case["result"]]
    get_writer("all", str(tmp_path))(result, "some/talk.v1.flac", case["layout"])
    for name, text in case["files"].items():
        assert (tmp_path / f"talk.v1.{name}").read_bytes() == text.encode()
    assert sorted(path.suffix[1:] for path in tmp_path.iterdir()) == sorted(ALL)


def test_layout_as_keywords_prevails(tmp_path: Path) -> None:
    result = GOLDEN["results"][5]
    get_writer("srt", tmp_path)(result, "a.wav", {"max_line_width": 14})
    wanted = (tmp_path / "a.srt").read_text()
    get_writer("srt", tmp_path)(result, "a.wav", {"max_line_width": 99}, max_line_width=14)
    assert (tmp_path / "a.srt").read_text() == wanted
    get_writer("srt", tmp_path)(result, "a.wav", {"max_line_width": 99})
    assert (tmp_path / "a.srt").read_text() != wanted


@pytest.mark.parametrize(("seconds", "short", "full"), GOLDEN["timestamps"])
def test_timestamps(seconds: float, short: str, full: str) -> None:
    assert format_timestamp(seconds) == short
    assert format_timestamp(seconds, always_include_hours=True, decimal_marker=",") == full


def test_negative_time() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_timestamp(-0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_one_format(name: str, tmp_path: Path) -> None:
    get_writer(name, tmp_path)(RESULT, tmp_path / "a.b.wav")
    assert [path.name for path in tmp_path.iterdir()] == [f"a.b.{name}"]


def test_unknown_format_and_layout(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'docx'"):
        get_writer("docx", tmp_path)
    with pytest.raises(OptionError, match="max_line_width"):
        get_writer("srt", tmp_path)(RESULT, "a.wav", {"max_line_width": -1})


@pytest.mark.parametrize("name", ["txt", "tsv", "json"])
def test_options_of_subtitles_are_refused_by_other_formats(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"no effect on {name}; the formats .* are vtt, srt, ass"):
        get_writer(name, tmp_path)(RESULT, "a.wav", {"break_at_clauses": True})
    assert not list(tmp_path.iterdir())
    get_writer(name, tmp_path)(RESULT, "a.wav", {"max_line_width": 20})  # as openai-whisper's do


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/a\.txt: No such file"):
        get_writer("txt", tmp_path / "nowhere")(RESULT, "a.wav")


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    get_writer("txt", tmp_path)(RESULT, "a.wav")
    # what is written to /dev/full fails as on a full disk
    (tmp_path / f".a.txt.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: No space left on device") as caught:
        get_writer("txt", tmp_path)({"segments": [{"text": "other"}]}, "a.wav")
    assert isinstance(caught.value, MaxWhisperError)
    assert (tmp_path / "a.txt").read_text() == "Hi.\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_interrupt_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get_writer("txt", tmp_path)(RESULT, "a.wav")
    assert not list(tmp_path.iterdir())


def test_file_has_ordinary_permissions(tmp_path: Path) -> None:
    get_writer("txt", tmp_path)(RESULT, "a.wav")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def spoken(worded: bool) -> dict[str, Any]:
    """Two speakers, the second of whom talks into the first one's last word."""
    segments: list[dict[str, Any]] = [
        {"start": 0.0, "end": 1.5, "text": " Good morning.", "speaker": "Ann"},
        {"start": 1.0, "end": 2.0, "text": " Hello\tthere.", "speaker": "<Bob>"},
    ]
    for segment in segments if worded else ():
        texts = segment["text"].split()
        step = (segment["end"] - segment["start"]) / len(texts)
        segment["words"] = [
            {
                "word": f" {text}",
                "start": segment["start"] + n * step,
                "end": segment["start"] + (n + 1) * step,
            }
            for n, text in enumerate(texts)
        ]
    return {"text": " Good morning. Hello\tthere.", "segments": segments, "language": "en"}


@pytest.mark.parametrize("worded", [False, True])
def test_every_format_shows_the_speaker(worded: bool, tmp_path: Path) -> None:
    result = spoken(worded)
    get_writer("all", tmp_path)(result, "call.wav")
    get_writer("ass", tmp_path)(result, "call.wav")
    files = {path.suffix[1:]: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert files["txt"] == "Ann: Good morning.\n<Bob>: Hello\tthere.\n"
    assert files["tsv"] == (
        "start\tend\tspeaker\ttext\n0\t1500\tAnn\tGood morning.\n1000\t2000\t<Bob>\tHello there.\n"
    )
    assert json.loads(files["json"]) == result
    told = "Hello there." if worded else "Hello\tthere."
    assert files["srt"] == (
        "1\n00:00:00,000 --> 00:00:01,500\nAnn: Good morning.\n\n"
        f"2\n00:00:01,000 --> 00:00:02,000\n<Bob>: {told}\n\n"
    )
    assert files["vtt"] == (
        "WEBVTT\n\n00:00.000 --> 00:01.500\n<v Ann>Ann: Good morning.\n\n"
        f"00:01.000 --> 00:02.000\n<v &lt;Bob&gt;>&lt;Bob&gt;: {told}\n\n"
    )
    assert ",Default,Ann,0,0,0,,Ann: " in files["ass"] and "<Bob>: " in files["ass"]


@pytest.mark.parametrize("clauses", [False, True])
def test_a_speaker_takes_room_in_the_first_line_and_ends_a_subtitle(clauses: bool, tmp_path: Path) -> None:
    layout = {"max_line_width": 17, "max_line_count": 2, "break_at_clauses": clauses}
    result = spoken(True)
    get_writer("srt", tmp_path)(result, "call.wav", layout)
    assert (tmp_path / "call.srt").read_text().splitlines()[2::5] == ["Ann: Good", "<Bob>: Hello"]
    for segment in result["segments"]:
        del segment["speaker"]
    get_writer("srt", tmp_path)(result, "call.wav", layout)
    assert (tmp_path / "call.srt").read_text().splitlines()[2] == "Good morning."


def test_small_helpers() -> None:
    assert compression_ratio("ab" * 500) > 20 > 1 > compression_ratio("a")
    assert exact_div(480000, 160) == 3000
    assert make_safe("naïve 私") == "naïve 私"
    assert str2bool("True") is True
    assert str2bool("False") is False
    assert optional_int("None") is None
    assert optional_int("7") == 7
    assert optional_float("None") is None
    assert optional_float("0.5") == 0.5
    with pytest.raises(ValueError, match="3 is not a multiple of 2"):
        exact_div(3, 2)
    with pytest.raises(ValueError, match="'yes'"):
        str2bool("yes")
