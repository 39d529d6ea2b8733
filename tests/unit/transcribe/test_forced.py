"""Forced alignment over speech that is made up: who says which letter when is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from max_whisper.errors import AlignmentError, OptionError
from max_whisper.transcribe.forced import (
    AlignOptions,
    Reading,
    align_recording,
    is_torn,
    safe_count,
    said_count,
)
from max_whisper.transcribe.known_text import words_of
from max_whisper.transcribe.pauses import quiet_frames, take_pauses_out
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.segments import Progress
from max_whisper.transcribe.words import WordTiming
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, IDS, TEXT, TinyTokenizer

LONG = replace(DIMS, n_audio_ctx=1500, n_text_ctx=448)
TINY = TinyTokenizer()
LETTER = 20  # frames that a letter takes


class Speech(MockRuntime):
    """Hears a script: it expects each letter in turn that is said in a window, and then the end.

    Args:
        script: (letter, frame) of all that is said.
    """

    def __init__(self, script):
        super().__init__(LONG, self.next_logits, lambda mel: np.full((1500, 2), mel[0, 0], np.float32))
        self.script = script

    def following(self, history, seek):
        """The place in the script of what is said next in a window: the first letter, then on from there."""
        said = "".join(TEXT[token] for token in history if token < len(TEXT))
        heard = [i for i, (_, frame) in enumerate(self.script) if seek <= frame < seek + 3000]
        if not said or not heard:
            return next(iter(heard), None)
        text = "".join(letter for letter, _ in self.script[heard[0] : heard[-1] + 1])
        after = heard[0] + text.find(said) + len(said)
        return after if said in text and after in heard else None

    def next_logits(self, history, features):
        logits = np.zeros(LONG.n_vocab, np.float32)
        place = self.following(history, features[0, 0])
        logits[IDS["eot"] if place is None else TEXT.index(self.script[place][0])] = 12
        return logits

    def forward(self, batch):
        found, frames = super().forward(batch), []
        for row, position, window in zip(batch.rows, batch.positions, batch.windows):
            seek = self._windows[int(window)][1][0, 0]
            place = self.following(self._cells[row][position].history, seek)
            last = max((f for _, f in self.script if f < seek + 3000), default=0) + LETTER
            frames.append((last if place is None else self.script[place][1]) - seek)
        queries = np.zeros((1, len(frames), 2), np.float32)
        queries[0, :, 0] = np.clip(frames, 0, 2999)
        return replace(found, host_queries=queries)

    def scores(self, queries, heads, window):
        begins = (queries[0, :, 0] // 2).astype(int)
        noise = np.random.default_rng(0).standard_normal((len(heads), len(begins), 1500))
        scores = noise.astype(np.float32)
        for row, begin in enumerate(begins):
            scores[:, row, begin : begin + LETTER // 2] += 12
        return scores


def spoken(text, begin=0, gaps=()):
    """The script of a text that is said from a frame on, with silences before some of its letters."""
    script, frame = [], begin
    for i, letter in enumerate(text):
        frame += dict(gaps).get(i, 0)
        script.append((letter, frame))
        frame += LETTER
    return script


def align(script, text, **options):
    frames = max((frame for _, frame in script), default=0) + 300
    mel = np.zeros((4, frames + 3000), np.float32)
    mel[0, :frames] = np.arange(frames)
    mel[1] = -mel[0]
    for _, frame in script:
        mel[2, frame : frame + LETTER] = 4
    scheduler = Scheduler(Speech(script))
    options = AlignOptions(**{"language": "en", **options})
    job = scheduler.submit(align_recording(mel, text, LONG, lambda *_: TINY, options, [(0, 0)]))
    while scheduler.step():
        pass
    return job.result(), list(job.events)


TALE = " the quick brown fox jumps. over a lazy dog it goes, and on. we cannot say why"
TALE += " he did so, yet many birds saw him fly. jackdaws love my big sphinx of quartz."
TALE *= 3


def check(script, words):
    expected = [frame / 100 for letter, frame in script if letter == " "]
    assert [word.start for word in words] == pytest.approx(expected, abs=0.08)


def test_a_text_is_placed_over_many_windows():
    script = spoken(TALE, 30)  # 92 s
    result, events = align(script, TALE)
    assert len({segment.seek for segment in result.segments}) > 3
    words = [word for segment in result.segments for word in segment.words]
    assert "".join(word.word for word in words) == result.text == TALE
    check(script, words)
    assert [segment.id for segment in result.segments] == list(range(len(result.segments)))
    assert result.language == "en"
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total
    for segment in result.segments:
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
        assert segment.token_logprobs is None and "token_logprobs" not in segment.as_dict()
        assert segment.avg_logprob > -0.1 and segment.words[0].probability > 0.9


def test_silence_that_fills_windows_is_passed_over():
    at = TALE.index(" over")
    script = spoken(TALE, 4000, [(at, 7100)])
    result, _ = align(script, TALE)
    words = [word for segment in result.segments for word in segment.words]
    check(script, words)
    assert words[4].end < 40 + at * LETTER / 100 + 0.5, "silence is no part of the word before it"


def test_one_window_takes_one_pass():
    script = spoken(" the quick brown fox.", 50)
    result, _ = align(script, "the quick\n brown\tfox.", token_logprobs=True)
    (segment,) = result.segments
    assert segment.text == " the quick brown fox."
    assert len(segment.token_logprobs) == len(segment.tokens)
    assert max(segment.token_logprobs) < 0 and min(segment.token_logprobs) > -0.01
    assert segment.as_dict()["token_logprobs"] == list(segment.token_logprobs)


@pytest.mark.parametrize("missing", [True, False])
def test_text_that_nobody_says_is_told(missing):
    script = spoken(TALE, 30)
    with pytest.raises(AlignmentError) as told:
        align(script, " zebras yawn while jazz plays" if missing else TALE + " zebras yawn while jazz plays")
    if missing:
        assert "nothing of the text is heard" in str(told.value) and "zebras" in str(told.value)
    else:
        assert "its last 5 words, from 'zebras yawn" in str(told.value)


def test_lines_may_be_kept_in_place_of_sentences():
    text = "the quick. brown\n\nfox jumps."
    script = spoken(" the quick. brown fox jumps.", 0)
    lines, _ = align(script, text, original_split=True)
    assert [segment.text for segment in lines.segments] == [" the quick. brown", " fox jumps."]
    sentences, _ = align(script, text)
    assert [segment.text for segment in sentences.segments] == [" the quick.", " brown fox jumps."] or [
        segment.text for segment in sentences.segments
    ] == [" the quick. brown fox jumps."]


@pytest.mark.parametrize(
    ("text", "told"),
    [(" \n\t ", "the text is empty"), ("ab " + "c" * 224, "'c.*has 225 tokens.*room for 224")],
)
def test_a_text_without_words_or_with_endless_ones_is_refused(text, told):
    with pytest.raises(OptionError, match=told):
        align(spoken(" ab"), text)


def test_a_few_slips_end_nothing_and_the_end_does():
    words = np.array([-0.1, -9, -9, -0.2, -0.3, -0.1, -7, -6, -8, -7.0])
    ends = np.array([-9, -7, -5, -9, -9, -9, -0.2, -3, -2, -4, -3.0])
    spoken = np.ones(10, bool)
    assert said_count(words, ends, spoken) == 6
    assert said_count(words[6:], ends[6:], spoken[6:]) == 0
    marks = np.array([-0.1] * 6 + [-5, -0.01, -0.01, -0.01])
    assert said_count(marks, ends, np.arange(10) < 7) == 6, "marks are probable anywhere"


def test_words_without_time_in_a_row_are_a_tear():
    words = np.ones(8, bool)
    torn = np.array([0, 1, 2, 2, 2, 2, 2, 3, 4.0])
    assert is_torn(torn, words, 30)
    assert not is_torn(torn, words, 3), "what is left over is stacked at a window's end"
    assert not is_torn(torn, np.array([1, 1, 1, 0, 1, 1, 1, 1], bool), 30), "marks have no time"
    assert not is_torn(np.arange(9.0), words, 30)


def reading(*times):
    starts, ends = np.array([a for a, _ in times]), np.array([b for _, b in times])
    return Reading(len(times), starts.astype(float), ends.astype(float), [[0.0]] * len(times), 0.0)


def test_what_is_close_to_the_end_is_left_to_the_next_window():
    marks = ".,"
    words = words_of("ab cd, ef gh", TINY, 32)
    assert [word.word for word in words] == [" ab", " cd", ",", " ef", " gh"]
    assert safe_count(reading((0, 9), (9, 20), (20, 21), (21, 28), (28.8, 30)), words, 30, marks) == 4
    assert safe_count(reading((0, 9), (9, 28.6), (28.6, 29), (29, 29.5)), words, 30, marks) == 1
    assert safe_count(reading((0, 30)), words, 30, marks) == 1
    assert safe_count(reading((0, 31)), words, 30, marks) == 0, "nothing but the end of the first word"
    assert safe_count(reading(), words, 30, marks) == 0


def test_the_later_half_ends_at_a_sentence():
    words = words_of("ab cd. ef gh", TINY, 32)
    words = [replace(word, closes=word.word == ".") for word in words]
    late = reading((0, 9), (9, 15), (15, 16), (16, 20), (20, 25))
    early = reading((0, 3), (3, 5), (5, 6), (6, 20), (20, 25))
    assert safe_count(late, words, 30, ".") == 3
    assert safe_count(early, words, 30, ".") == 5


def test_pauses_are_no_part_of_words():
    mel = np.zeros((4, 500), np.float32)
    mel[:, 100:200] = mel[:, 260:300] = mel[:, 310:400] = 3
    quiet = quiet_frames(mel)
    timings = [WordTiming(" a", [0], s, e, 1.0) for s, e in [(0, 2.4), (2.4, 3.5), (2.0, 2.5), (1.9, 4.5)]]
    take_pauses_out(timings, quiet)
    assert [(t.start, t.end) for t in timings] == [(0.98, 2.02), (2.58, 3.5), (2.0, 2.5), (2.58, 4.02)]
    assert not quiet_frames(np.ones((4, 300), np.float32)).any()
