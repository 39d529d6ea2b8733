from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from max_whisper.decoding.options import DecodingResult, Trace
from max_whisper.decoding.requests import Attend
from max_whisper.timing import WordTiming, dtw_cpu, median_filter, merge_punctuations
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.words import find_alignment, traced_alignment
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, TEXT, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer

TABLES = TinyModel(3)
TINY = TinyTokenizer()


def timings(*words):
    return [WordTiming(word, [i], i, i + 1, 1.0) for i, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        ([" one", ",", " two", "."], [" one,", "", " two.", ""]),
        ([" (", "one", ")", " two"], ["", " (one)", "", " two"]),
        ([' "', " -", "one"], ["", "", ' " -one']),
        ([" one", "?", "!"], [" one?!", "", ""]),
    ],
)
def test_marks_join_the_words_they_belong_to(words, merged):
    alignment = timings(*words)
    merge_punctuations(alignment, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    assert [timing.word for timing in alignment] == merged
    assert sum(len(timing.tokens) for timing in alignment) == len(words)


def test_words_come_from_attention_and_probabilities_from_text_alone():
    text = TINY.encode("ab c")
    begins = [0, 8, 16, 24, 32]

    class Attentive(MockRuntime):
        def scores(self, queries, heads, window):
            assert queries.shape[1] == len(TINY.sot_sequence) + 1 + len(text) + 1
            scores = np.zeros((len(heads), queries.shape[1], DIMS.n_audio_ctx), np.float32)
            first = len(TINY.sot_sequence)
            for token, (start, end) in enumerate(zip(begins, [*begins[1:], 40])):
                scores[:, first + token, start:end] = 9
            return scores

    def work():
        window = yield Attend(np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), 5, np.float32))
        return (yield from find_alignment(window, 80, text, TINY, [(0, 0)]))

    scheduler = Scheduler(Attentive(DIMS, TABLES.logits))
    job = scheduler.submit(work())
    while scheduler.step():
        pass
    first, second = job.result()
    assert (first.word, second.word) == ("ab", " c")
    assert first.tokens + second.tokens == text
    assert [first.start, first.end, second.end] == pytest.approx([0, 0.32, 0.64], abs=0.04)
    assert first.end == second.start

    history, features = [*TINY.sot_sequence, TINY.no_timestamps], np.full((1, 1), 5)
    expected = []
    for token in text:
        weights = np.exp(TABLES.logits(history, features)[: len(TEXT)])
        expected.append(weights[token] / weights.sum())
        history.append(token)
    assert first.probability == pytest.approx(np.mean(expected[:2]), rel=1e-5)
    assert second.probability == pytest.approx(np.mean(expected[2:]), rel=1e-5)


def test_no_text_has_no_words():
    with pytest.raises(StopIteration) as end:
        next(find_alignment(0, 3000, [], TINY, [(0, 0)]))
    assert end.value.value == []
    silent = result_of([TIMESTAMP_BEGIN, TIMESTAMP_BEGIN + 9])
    with pytest.raises(StopIteration) as end:
        next(traced_alignment(0, 3000, silent, 2, TINY, [(0, 0)]))
    assert end.value.value == []


def result_of(tokens, ends=True, logprob=-0.5):
    """A window's result, whose queries are numbered."""
    logprobs = tuple(logprob - 0.1 * i for i in range(len(tokens) + ends))
    rows = len(TINY.sot_sequence) - 1 + len(logprobs)
    queries = np.tile(np.arange(rows, dtype=np.float32)[:, None], (1, 1, DIMS.n_text_state))
    return DecodingResult(None, "en", tokens=tokens, trace=Trace(logprobs, queries=queries))


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("behind", [0, 2])
def test_fast_words_come_from_the_steps_that_chose_them(ends, behind):
    stamps = [TIMESTAMP_BEGIN + at for at in (0, 9, 9, 17)]
    one, two, rest = TINY.encode("ab c"), TINY.encode(" d"), TINY.encode(" ef")[:behind]
    tokens = [stamps[0], *one, stamps[1], stamps[2], *two, stamps[3], *rest]
    count = len(tokens) - behind
    first = len(TINY.sot_sequence) - 1  # where the first token was predicted
    steps = [1, 2, 3, 4, 7, 8]  # those of the six characters
    work = traced_alignment(3, 100, result_of(tokens, ends), count, TINY, [(0, 0), (0, 1)])
    asked = next(work)
    assert (asked.window, asked.heads) == (3, [(0, 0), (0, 1)])
    assert asked.queries[0, :, 0].tolist() == [*range(first), *(first + step for step in [*steps, 9])]
    assert (asked.positions, asked.wanted) == (50, slice(first, None))
    with pytest.raises(StopIteration) as end:
        work.send(7 * np.arange(7))
    words = end.value.value
    assert [word.word for word in words] == ["ab", " c", " d"]
    assert [word.tokens for word in words] == [one[:2], one[2:], two]
    assert [word.start for word in words] == pytest.approx([0, 0.28, 0.56])
    assert [word.end for word in words] == pytest.approx([0.28, 0.56, 0.84])
    chances = [np.exp(-0.5 - 0.1 * np.array(part)).mean() for part in ([1, 2], [3, 4], [7, 8])]
    assert [word.probability for word in words] == pytest.approx(chances)


def test_a_text_that_was_cut_off_ends_with_the_windows_speech():
    text = TINY.encode("ab")
    work = traced_alignment(0, 60, result_of([TIMESTAMP_BEGIN, *text], ends=False), 3, TINY, [(0, 0)])
    assert next(work).queries.shape[1] == len(TINY.sot_sequence) - 1 + len(text)
    with pytest.raises(StopIteration) as end:
        work.send(np.array([0, 15]))
    (word,) = end.value.value
    assert (word.start, word.end) == (0, 0.6)


def test_bytes_that_form_no_character_count_for_no_word():
    class Cut(TinyTokenizer):
        def split_to_word_tokens(self, ids):
            return super().split_to_word_tokens(ids[:-1])

    text = TINY.encode("ab cd")
    work = traced_alignment(0, 60, result_of([TIMESTAMP_BEGIN, *text], ends=True), 6, Cut(), [(0, 0)])
    next(work)
    with pytest.raises(StopIteration) as end:
        work.send(np.arange(6))
    words = end.value.value
    assert [word.word for word in words] == ["ab", " c"]
    chances = [np.exp(-0.5 - 0.1 * np.array(part)).mean() for part in ([1, 2], [3, 4])]
    assert [word.probability for word in words] == pytest.approx(chances)


def test_fast_words_need_the_queries():
    bare = replace(result_of([TIMESTAMP_BEGIN]), trace=Trace((-0.5,)))
    with pytest.raises(ValueError, match="without keeping"):
        next(traced_alignment(0, 3000, bare, 1, TINY, [(0, 0)]))


def test_openai_whispers_path_has_its_names():
    assert dtw_cpu(np.eye(3)).shape[0] == 2
    assert median_filter(np.arange(9), 3).tolist() == [1, *range(1, 8), 7]
