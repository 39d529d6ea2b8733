from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.requests import Attend
from max_whisper.timing import WordTiming, dtw_cpu, median_filter, merge_punctuations
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.words import find_alignment
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, TEXT, TinyModel, TinyTokenizer

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
        def alignment(self, queries, heads, window):
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


def test_openai_whispers_path_has_its_names():
    assert dtw_cpu(np.eye(3)).shape[0] == 2
    assert median_filter(np.arange(9), 3).tolist() == [1, *range(1, 8), 7]
