"""How long subtitles stay, and what is said where that cannot be."""

from __future__ import annotations

import pytest

from max_whisper.errors import MaxWhisperWarning, OptionError
from max_whisper.subtitles import SubtitleLayout
from max_whisper.subtitles.pace import Timed, misses, paced, pieces
from max_whisper.writers import get_writer


def at(*cues, **limits):
    """The times that subtitles of (start, end, length, speaker) get."""
    return paced([Timed(*cue) for cue in cues], SubtitleLayout(**limits))


def test_without_limits_nothing_changes():
    assert at((0, 1, 50), (1, 2, 5)) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("cues", "limits", "ends"),
    [
        # 40 characters at 20 a second: two seconds, as far as there are
        ([(0, 1, 40)], {"max_chars_per_second": 20}, [2]),
        ([(0, 1, 40), (1.5, 3, 10)], {"max_chars_per_second": 20}, [1.5, 3]),
        ([(0, 3, 40)], {"max_chars_per_second": 20}, [3]),
        ([(0, 0.3, 4), (0.5, 2, 4)], {"min_cue_duration": 0.8}, [0.5, 2]),
        ([(0, 0.3, 4), (5, 6, 4)], {"min_cue_duration": 0.8}, [0.8, 6]),
        # what is said longer than it may stay goes early, and nothing makes it stay longer
        ([(0, 9, 4)], {"max_cue_duration": 7}, [7]),
        ([(0, 1, 900)], {"max_chars_per_second": 10, "max_cue_duration": 7}, [7]),
        # the gap comes from the end of the first
        ([(0, 1, 4), (1, 2, 4)], {"min_cue_gap": 0.1}, [0.9, 2]),
        ([(0, 1, 4), (1.05, 2, 4)], {"min_cue_gap": 0.1}, [0.95, 2]),
        ([(0, 1, 4), (1.5, 2, 4)], {"min_cue_gap": 0.1}, [1, 2]),
        ([(0, 1, 40), (1.5, 3, 4)], {"min_cue_gap": 0.1, "max_chars_per_second": 20}, [1.4, 3]),
        # none is left where there is no room for it, but never is one over the other
        ([(0, 0.05, 4), (0.05, 2, 4)], {"min_cue_gap": 0.1}, [0.05, 2]),
        # others are talked over where they talk, and no longer
        ([(0, 3, 4, "A"), (1, 2, 4, "B")], {"min_cue_gap": 0.1}, [3, 2]),
        ([(0, 1, 40, "A"), (1.5, 2, 4, "B"), (3, 4, 4, "A")], {"max_chars_per_second": 20}, [1.5, 2, 4]),
    ],
)
def test_times(cues, limits, ends):
    times = at(*cues, **limits)
    assert [start for start, _ in times] == [cue[0] for cue in cues]
    assert [end for _, end in times] == pytest.approx(ends)


def test_what_cannot_be_is_counted():
    limits = SubtitleLayout(max_chars_per_second=20, min_cue_duration=0.8, min_cue_gap=0.1)
    cues = [Timed(0, 1, 20), Timed(1.1, 1.5, 10), Timed(1.55, 3, 20)]
    told = misses(cues, limits)
    assert [message.partition(" of 3 ")[0] for message in told] == ["1", "1", "1"]
    assert "more than 20 characters a second, up to 25" in told[0]
    assert "shorter than 0.8 s, down to 0.40 s" in told[1]
    assert "gaps are shorter than 0.1 s" in told[2]
    assert misses(cues[:1], limits) == [] == misses([], limits)


def test_a_writer_tells_what_cannot_be_once_and_writes(tmp_path):
    words = [{"word": " Incomprehensibilities", "start": 0.0, "end": 0.4}]
    words += [{"word": " abound.", "start": 0.4, "end": 0.5}]
    result = {"segments": [{"start": 0.0, "end": 0.5, "text": "", "words": words}], "language": "en"}
    with pytest.warns(MaxWhisperWarning) as told:
        get_writer("all", tmp_path)(result, "talk.wav", max_words_per_line=1, max_chars_per_second=20)
    assert [str(one.message).partition(" need")[0] for one in told] == ["talk: 1 of 2 subtitles"]
    assert "00:00:00,400 --> 00:00:00,750\nabound." in (tmp_path / "talk.srt").read_text()


def test_pieces_are_as_long_as_they_may_be():
    words = [{"word": f" {n}", "start": n, "end": n + 1} for n in range(5)]
    words[3]["word"] = "\n3"
    found = [[word["word"] for word in piece] for piece in pieces(words, 3)]
    assert found == [["0", " 1", " 2"], ["3", " 4"]]
    assert [len(piece) for piece in pieces(words, 0.5)] == [1] * 5


def test_limits_hold_for_subtitles_that_are_filled_too(tmp_path):
    words = [{"word": f" {n}", "start": float(n), "end": n + 1.0} for n in range(5)]
    result = {"segments": [{"start": 0.0, "end": 5.0, "text": "", "words": words}], "language": "en"}
    limits = {"max_cue_duration": 2, "min_cue_gap": 0.25}
    get_writer("srt", tmp_path)(result, "a", limits)
    assert (tmp_path / "a.srt").read_text().splitlines()[1::4] == [
        "00:00:00,000 --> 00:00:01,750",
        "00:00:02,000 --> 00:00:03,750",
        "00:00:04,000 --> 00:00:05,000",
    ]
    get_writer("srt", tmp_path)(result, "b", limits, highlight_words=True)
    highlighted = (tmp_path / "b.srt").read_text().splitlines()
    assert highlighted[1:7:4] == ["00:00:00,000 --> 00:00:01,000", "00:00:01,000 --> 00:00:01,750"]
    assert highlighted[2:8:4] == ["<u>0</u> 1", "0 <u>1</u>"]


def test_a_subtitle_that_stays_longer_has_no_word_marked_in_the_end(tmp_path):
    words = [{"word": " Hi", "start": 0.0, "end": 0.2}]
    result = {"segments": [{"start": 0.0, "end": 0.2, "text": "", "words": words}], "language": "en"}
    get_writer("srt", tmp_path)(result, "a", highlight_words=True, min_cue_duration=1)
    assert (tmp_path / "a.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:00,200\n<u>Hi</u>\n\n2\n00:00:00,200 --> 00:00:01,000\nHi\n\n"
    )


@pytest.mark.parametrize(
    "limits",
    [
        {"min_cue_gap": -0.1},
        {"max_chars_per_second": float("nan")},
        {"max_cue_duration": float("inf")},
        {"min_cue_duration": 3, "max_cue_duration": 2},
    ],
)
def test_limits_that_make_no_sense(limits):
    with pytest.raises(OptionError, match=r"cue|chars"):
        SubtitleLayout.of(limits)
