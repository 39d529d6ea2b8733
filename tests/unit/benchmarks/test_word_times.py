"""Marks are read in both forms of a TextGrid, and errors are of the words that both sides have."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import word_times
from benchmarks.environments import BenchmarkError
from benchmarks.word_times import Marked

WORDS = [("", 0.0, 0.5), ('say "ah"', 0.5, 1.25), ("no 2", 1.25, 2.0)]
LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "tone 1"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 0.7
            mark = "H*"
    item [2]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "say ""ah"""
        intervals [3]:
            xmin = 1.25
            xmax = 2
            text = "no 2"
'''
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
2
"TextTier"
"tone 1"
0
2
1
0.7
"H*"
"IntervalTier"
"word"
0
2
3
0
0.5
""
0.5
1.25
"say ""ah"""
1.25
2
"no 2"
'''


@pytest.mark.parametrize("text", [LONG, SHORT])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_tier_in_both_forms(tmp_path, text, encoding) -> None:
    (tmp_path / "a.TextGrid").write_text(text, encoding)
    found = word_times.read_tier(tmp_path / "a.TextGrid", "word")
    assert found == WORDS
    with pytest.raises(BenchmarkError, match="no tier of intervals 'phone'; there are tone 1, word"):
        word_times.read_tier(tmp_path / "a.TextGrid", "phone")


def test_errors_are_of_words_in_common() -> None:
    expected = [("one", 0.0, 1.0), ("two", 1.0, 2.0), ("three", 2.0, 3.0)]
    found = [(" One,", 0.1, 1.0), (" too", 1.0, 2.0), (" -", 2.0, 2.0), (" three.", 2.25, 2.5)]
    starts, ends = word_times.errors(expected, found)
    assert starts == pytest.approx([0.1, 0.25])
    assert ends == pytest.approx([0.0, 0.5])


def test_joined_recordings_keep_the_times_of_their_words() -> None:
    clips = [Marked(np.full(16000 * n, n, np.float32), ((f"w{n}", 0.25, 0.5),)) for n in (1, 2)]
    long = word_times.joined(clips, 3)
    assert len(long.samples) == 3 * (1 + 1 + 2 + 1) * 16000
    assert len(long.words) == 6
    for word, start, _ in long.words:
        assert long.samples[round(start * 16000)] == int(word[1:])
