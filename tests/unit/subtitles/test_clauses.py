"""Where lines and subtitles end: at sentences, clauses and small words, balanced, never for one word."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from max_whisper.errors import OptionError
from max_whisper.subtitles import SubtitleLayout, subtitle_cues

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
VOCABULARY = (
    *("a", "of", "and", "the", "he", "said,", "it's", "incomprehensibilities.", "no!", "Mr.", "John"),
    *("so", "(well)", "was", "3", "—", "«oui»", "which"),
)
CLAUSES = SubtitleLayout(break_at_clauses=True)


def timed(text, start=0.0, pace=0.3, pauses=None):
    """Words of 0.3 s, one after the other; a pause in seconds behind some of them."""
    words = []
    for word in text.split(" "):
        words.append({"word": f" {word}", "start": round(start, 2), "end": round(start + pace, 2)})
        start += pace + (pauses or {}).get(word, 0)
    return words


def result(*segments, language="en"):
    return {
        "segments": [
            {"start": words[0]["start"], "end": words[-1]["end"], "words": words} for words in segments
        ],
        "language": language,
    }


def texts(words, layout=CLAUSES, language="en"):
    return [cue.text for cue in subtitle_cues(result(words, language=language), layout)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # one line where it fits
        ("He was not an ill-disposed young man.", ["He was not an ill-disposed young man."]),
        # after a comma, though the lines are less even so
        (
            "Had he married a more amiable woman, he might have been made still more respectable.",
            ["Had he married a more amiable woman,\nhe might have been made still more respectable."],
        ),
        # before a conjunction
        (
            "She told him everything she knew because he had asked her.",
            ["She told him everything she knew\nbecause he had asked her."],
        ),
        # before a preposition, not behind it or its article
        (
            "They had been walking together along the banks of the river.",
            ["They had been walking together\nalong the banks of the river."],
        ),
        # a title and a name stay together
        (
            "Yesterday afternoon I finally met Mr. Dashwood of Norland Park.",
            ["Yesterday afternoon I finally\nmet Mr. Dashwood of Norland Park."],
        ),
        # a sentence ends the subtitle where the next does not fit in
        (
            "It was very late when they came home. Nobody had waited for them in the dark old house.",
            ["It was very late when they came home.", "Nobody had waited for them\nin the dark old house."],
        ),
        # a sentence of one word is not an orphan
        ("Yes.", ["Yes."]),
        # what has no marks at all
        (
            "they went on working till the morning while nobody in the house heard them or knew about it",
            [
                "they went on working till the morning\nwhile nobody in the house heard them",
                "or knew about it",
            ],
        ),
    ],
)
def test_breaks_are_where_readers_pause(text, wanted):
    width = 52 if "amiable" in text else 42
    layout = SubtitleLayout(break_at_clauses=True, max_line_width=width)
    assert texts(timed(text), layout) == wanted


def test_other_languages_have_their_small_words():
    text = "Wir haben gestern lange gewartet weil der letzte Zug nicht gekommen ist"
    assert texts(timed(text), language="de") == [
        "Wir haben gestern lange gewartet\nweil der letzte Zug nicht gekommen ist"
    ]


def test_languages_without_spaces_break_at_marks_in_narrow_lines():
    characters = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    words = [
        {"word": character, "start": n / 5, "end": (n + 1) / 5} for n, character in enumerate(characters)
    ]
    found = texts(words, language="ja")
    assert "".join(found).replace("\n", "") == characters
    assert found[0] == "吾輩は猫である。名前はまだ無い。"
    for cue in found:
        assert all(len(line) <= 16 and line[0] not in "。、" for line in cue.split("\n"))


def test_parts_of_a_word_are_never_parted():
    words = [*timed("this is an altogether quite remarkably well"), *timed("-known and well", 2.1)[0:3]]
    words[7]["word"] = "-known"
    for width in range(8, 40):
        layout = SubtitleLayout(break_at_clauses=True, max_line_width=width)
        assert not any("\n-known" in cue or cue.startswith("-known") for cue in texts(words, layout))


def test_a_long_pause_ends_a_subtitle():
    words = timed("I have seen nothing of him since then", pauses={"nothing": 2.5})
    assert texts(words) == ["I have seen nothing", "of him since then"]


def test_subtitles_run_on_over_segments():
    words = timed("Nobody had waited for them in the dark old house")
    assert [cue.text for cue in subtitle_cues(result(words[:4], words[4:]), CLAUSES)] == texts(words)


def test_longest_and_hasty_subtitles_are_parted_elsewhere():
    text = "one two three, four five six seven eight nine ten eleven twelve"
    layout = SubtitleLayout(break_at_clauses=True, max_cue_duration=2.0)
    cues = subtitle_cues(result(timed(text)), layout)
    assert all(cue.end - cue.start <= 2.0 + 1e-9 for cue in cues) and len(cues) == 2
    # the second subtitle would have 0.3 s before something else comes
    words = [*timed("Listen to what they all say. No. Yes, it is"), *timed("so.", start=3.0, pauses={})]
    hasty = SubtitleLayout(break_at_clauses=True, min_cue_duration=0.8, min_cue_gap=0.1)
    cues = subtitle_cues(result(words), hasty)
    assert all(after.start - before.start >= 0.9 for before, after in pairwise(cues))


@pytest.mark.parametrize("language", ["en", "de", "xx", None])
@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_said_stays_whole_and_within_its_lines(seed, language):
    chance = random.Random(seed)
    words, time = [], 0.0
    for _ in range(chance.randint(1, 60)):
        start = time + chance.choice([0, 0, 0, 0.02, 0.4, 2.5])
        time = start + chance.choice([0.0, 0.1, 0.3, 0.9])
        words.append({"word": " " + chance.choice(VOCABULARY), "start": start, "end": time})
    layout = SubtitleLayout(
        break_at_clauses=True,
        max_line_width=chance.choice([None, 12, 25]),
        max_line_count=chance.choice([None, 1, 3]),
        max_words_per_line=chance.choice([None, 5]),
        max_cue_duration=chance.choice([None, 2.0]),
        min_cue_gap=chance.choice([None, 0.08]),
        max_chars_per_second=chance.choice([None, 15]),
    )
    cues = subtitle_cues(result(words, language=language), layout)
    assert " ".join(cue.text.replace("\n", " ") for cue in cues).split() == [
        word["word"].strip() for word in words
    ]
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= (layout.max_line_count or 2)
        assert all(len(line) <= (layout.max_line_width or 42) or " " not in line for line in lines)
        assert all(line == line.strip() for line in lines)
        assert len(cue.words) <= (layout.max_words_per_line or 99)
        assert cue.end - cue.start <= (layout.max_cue_duration or 99) + 1e-9
    assert all(before.end <= after.start for before, after in pairwise(cues))


@pytest.mark.parametrize("clip", ["jfk", "librivox-0870", "librivox-0890", "librivox-0920", "prompts_en"])
@pytest.mark.parametrize("model", ["tiny.en", "base"])
def test_real_words_have_no_orphans(model, clip):
    run = json.loads((GOLDEN / model / f"{clip}.json").read_text("utf-8"))["runs"]["greedy_words"]
    segments = [
        [{"word": word, "start": start, "end": end} for word, start, end, *_ in segment["words"]]
        for segment in run["segments"]
    ]
    cues = subtitle_cues(result(*filter(None, segments)), CLAUSES)
    lines = [line for cue in cues for line in cue.text.split("\n")]
    assert all(len(line) <= 42 for line in lines) and max(map(len, lines)) > 20
    for cue in cues:
        for line in cue.text.split("\n"):
            assert " " in line or line[-1] in ".!?", cue.text
            assert line.split()[-1].lower() not in {"a", "the", "of", "and", "to", "or"}, cue.text


@pytest.mark.parametrize("options", [{"break_at_clauses": True}, {"min_cue_gap": 0.1}])
def test_a_result_without_word_times_is_refused(options):
    plain = {"segments": [{"start": 0.0, "end": 1.0, "text": " Hi."}], "language": "en"}
    with pytest.raises(OptionError, match="word_timestamps"):
        subtitle_cues(plain, SubtitleLayout.of(options))
    assert subtitle_cues({"segments": [], "language": None}, SubtitleLayout.of(options)) == []
