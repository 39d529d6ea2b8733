"""What a window's result tells of its tokens, in every kind of search and in company."""

from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.candidates import constrain, log_softmax
from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.requests import Attend
from max_whisper.decoding.rules import rules_for
from max_whisper.decoding.runtime import Constraint
from max_whisper.decoding.window import Fallback, build_prompt, decode_window, decode_with_fallback
from max_whisper.transcribe.scheduler import Scheduler
from support.mock_runtime import MockRuntime, fingerprint
from support.tiny import DIMS, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer

MODEL = TinyModel(3, end=2.5)
TINY = TinyTokenizer()
OPTIONS = [
    DecodingOptions(language="en"),
    DecodingOptions(language="en", prompt="so it goes", sample_len=4),
    DecodingOptions(language="en", temperature=0.9, best_of=4, seed=4),
    DecodingOptions(language="en", beam_size=3),
    DecodingOptions(language="en", beam_size=5, patience=2.0, prompt=[1, 2, 3]),
    DecodingOptions(language="en", beam_size=4, sample_len=5),
    DecodingOptions(language="en", prefix=[TIMESTAMP_BEGIN, 4, 9], beam_size=2),
    DecodingOptions(language="en", prefix="a b", without_timestamps=True),
    DecodingOptions(language="en", repetition_penalty=1.3, no_repeat_ngram_size=2),
]


def features(key):
    return np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), key, np.float32)


def window(key, options, **more):
    number = yield Attend(features(key))
    return (yield from decode_window(number, options, TINY, DIMS, **more))


def run(*generators):
    scheduler = Scheduler(MockRuntime(DIMS, MODEL.logits), 5 * len(generators), len(generators))
    jobs = [scheduler.submit(generator, 5) for generator in generators]
    while scheduler.step():
        pass
    return [job.result() for job in jobs]


def test_queries_are_those_of_the_tokens_own_past():
    keys = (7, 50, 61)
    work = [(key, options) for key in keys for options in OPTIONS]
    results = run(*(window(*each, keep_queries=True) for each in work))
    for (_, options), result in zip(work, results):
        prompt, trace = build_prompt(options, TINY, DIMS), result.trace
        whole = [*prompt.tokens, *result.tokens]
        rows = len(prompt.tokens) - prompt.sot_index - 1 + len(trace.logprobs)
        assert trace.queries.shape == (1, rows, DIMS.n_text_state)
        histories = [whole[: prompt.sot_index + row + 1] for row in range(rows)]
        assert trace.queries[0, :, 0].tolist() == [fingerprint(history) for history in histories]


@pytest.mark.parametrize("options", OPTIONS)
def test_log_probabilities_are_those_that_decided(options):
    for key in (7, 50, 61):
        (result,) = run(window(key, options))
        trace, prompt = result.trace, build_prompt(options, TINY, DIMS)
        assert trace.queries is None
        tokens = [*result.tokens, TINY.eot][: len(trace.logprobs)]
        assert len(trace.logprobs) >= len(result.tokens)
        rules = rules_for(options, TINY, DIMS)
        for i, (token, logprob) in enumerate(zip(tokens, trace.logprobs)):
            constraint = Constraint()
            for rule in rules:
                constraint = rule.narrow(constraint, tokens[:i])
            logits = MODEL.logits([*prompt.tokens, *tokens[:i]], features(key)).astype(np.float32)
            assert logprob == pytest.approx(log_softmax(constrain(logits, constraint))[token], abs=1e-6)
        assert sum(trace.logprobs) == pytest.approx(result.avg_logprob * (len(result.tokens) + 1), abs=1e-4)
        start = len(prompt.tokens) - prompt.prefix
        assert len(trace.prefix) == prompt.prefix
        for at, logprob in enumerate(trace.prefix, start):
            logits = MODEL.logits(prompt.tokens[:at], features(key)).astype(np.float32)
            assert logprob == pytest.approx(log_softmax(logits)[prompt.tokens[at]], abs=1e-5)


def test_some_of_these_texts_end_and_some_are_cut_off():
    results = run(*(window(key, options) for key in (7, 50, 61) for options in OPTIONS))
    ended = [len(result.trace.logprobs) > len(result.tokens) for result in results]
    assert any(ended) and not all(ended)


def test_the_trace_is_that_of_the_temperature_that_was_accepted():
    options = DecodingOptions(language="en", best_of=3, beam_size=3)
    fallback = Fallback((0.0, 0.8), logprob_threshold=0.0, no_speech_threshold=None)

    def work():
        number = yield Attend(features(7))
        return (yield from decode_with_fallback(number, options, fallback, TINY, DIMS, keep_queries=True))

    (result,) = run(work())
    assert result.temperature == 0.8
    whole = [*TINY.sot_sequence, *result.tokens]
    rows = len(TINY.sot_sequence) - 1 + len(result.trace.logprobs)
    assert result.trace.queries[0, :, 0].tolist() == [fingerprint(whole[: i + 1]) for i in range(rows)]
