"""faster-whisper's names over a model of tables."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from max_whisper.errors import MaxWhisperWarning, OptionError
from max_whisper.faster_whisper import BatchedInferencePipeline, WhisperModel, transcribe
from max_whisper.faster_whisper.tokenizer import Tokenizer, get_suppressed_tokens
from max_whisper.model import Whisper
from max_whisper.tokenizer import Vocabulary
from max_whisper.transcribe import prepared
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, LANGUAGES, MULTILINGUAL, TinyModel, TinyTokenizer

TABLES = TinyModel(7, end=-1.0)
SECOND = 16000
# as its documentation has them, in its order
PARAMETERS = {
    "language": None,
    "task": "transcribe",
    "log_progress": False,
    "beam_size": 5,
    "best_of": 5,
    "patience": 1,
    "length_penalty": 1,
    "repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "temperature": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    "compression_ratio_threshold": 2.4,
    "log_prob_threshold": -1.0,
    "no_speech_threshold": 0.6,
    "condition_on_previous_text": True,
    "prompt_reset_on_temperature": 0.5,
    "initial_prompt": None,
    "prefix": None,
    "suppress_blank": True,
    "suppress_tokens": [-1],
    "without_timestamps": False,
    "max_initial_timestamp": 1.0,
    "word_timestamps": False,
    "prepend_punctuations": "\"'“¿([{-",
    "append_punctuations": "\"'.。,，!！?？:：”)]}、",
    "multilingual": False,
    "vad_filter": False,
    "vad_parameters": None,
    "max_new_tokens": None,
    "chunk_length": None,
    "clip_timestamps": "0",
    "hallucination_silence_threshold": None,
    "hotwords": None,
    "language_detection_threshold": 0.5,
    "language_detection_segments": 1,
}
BATCHED = {"without_timestamps": True, "vad_filter": True, "clip_timestamps": None, "batch_size": 8}
GREEDY = {"beam_size": 1, "temperature": 0.0, "no_speech_threshold": None}


class TinyWhisper(Whisper):
    def __init__(self, dims=MULTILINGUAL):
        self.mock = MockRuntime(dims, TABLES.logits, TABLES.features)
        super().__init__(self.mock, None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")


@pytest.fixture
def spectrogram(monkeypatch):
    def whole_numbers(audio, n_mels, padding):
        frames = (len(audio) + padding) // 160
        return np.tile((np.arange(frames) // 50 % 7).astype(np.float32), (DIMS.n_mels, 1))

    monkeypatch.setattr(prepared, "read_log_mel", whole_numbers)


@pytest.fixture
def model(spectrogram):
    return WhisperModel.of(TinyWhisper())


AUDIO = np.ones(70 * SECOND, np.float32)


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("owner", "changes"), [(WhisperModel, {}), (BatchedInferencePipeline, BATCHED)], ids=["model", "batched"]
)
def test_parameters_and_defaults_are_faster_whispers(owner, changes):
    found = inspect.signature(owner.transcribe).parameters
    defaults = {name: plain(p.default) for name, p in found.items() if name not in ("self", "audio")}
    assert defaults == PARAMETERS | changes
    assert next(iter(list(found)[2:])) == "language"


def test_fields_are_faster_whispers():
    def names(owner):
        return [field.name for field in dataclasses.fields(owner)]

    assert names(transcribe.Word) == ["start", "end", "word", "probability"]
    segment = ["id", "seek", "start", "end", "text", "tokens", "avg_logprob", "compression_ratio"]
    assert names(transcribe.Segment) == [*segment, "no_speech_prob", "words", "temperature"]
    info = ["language", "language_probability", "duration", "duration_after_vad", "all_language_probs"]
    assert names(transcribe.TranscriptionInfo) == [*info, "transcription_options", "vad_options"]
    assert set(names(transcribe.TranscriptionOptions)) == set(PARAMETERS) - {
        *("language", "task", "log_progress", "temperature", "vad_filter", "vad_parameters", "chunk_length"),
        *("language_detection_threshold", "language_detection_segments"),
    } | {"temperatures"}


def test_segments_are_the_engines(model):
    segments, info = model.transcribe(AUDIO, language="en", **GREEDY)
    segments = list(segments)
    same = model.model.transcribe(AUDIO, language="en", temperature=0.0, no_speech_threshold=None)
    kept = [segment for segment in same["segments"] if segment["text"]]
    assert [segment.text for segment in segments] == [segment["text"] for segment in kept]
    assert [segment.id for segment in segments] == list(range(1, len(kept) + 1))
    for segment, wanted in zip(segments, kept):
        found = dataclasses.asdict(segment)
        assert found.pop("words") is None
        assert found | {"id": wanted["id"]} == wanted
    assert (info.language, info.language_probability, info.all_language_probs) == ("en", 1, None)
    assert (info.duration, info.duration_after_vad, info.vad_options) == (70, 70, None)
    assert info.transcription_options.beam_size == 1
    assert info.transcription_options.temperatures == [0.0]


def test_segments_come_as_they_are_decoded(model):
    segments, _ = model.transcribe(AUDIO, language="en", **GREEDY)
    assert model.model.mock.encodings == 0
    next(segments)
    first = model.model.mock.encodings
    assert list(segments)
    assert 0 < first < model.model.mock.encodings


def test_the_language_is_known_before_the_first_segment(model):
    segments, info = model.transcribe(AUDIO, **GREEDY)
    assert model.model.mock.encodings == 1
    assert [code for code, _ in info.all_language_probs] == sorted(
        LANGUAGES, key=lambda code: -dict(info.all_language_probs)[code]
    )
    assert (info.language, info.language_probability) == info.all_language_probs[0]
    assert list(segments)
    found = model.detect_language(AUDIO)
    assert found == (info.language, info.language_probability, info.all_language_probs)


def test_several_windows_decide_on_the_language(model):
    once = model.detect_language(AUDIO, language_detection_threshold=1)
    before = model.model.mock.encodings
    assert model.detect_language(AUDIO, language_detection_segments=5, language_detection_threshold=1)
    assert model.model.mock.encodings - before == 3
    assert model.detect_language(AUDIO, language_detection_segments=5, language_detection_threshold=0) == once
    assert model.model.mock.encodings - before == 4
    with pytest.raises(OptionError, match="either audio or features"):
        model.detect_language()


def test_features_are_heard_as_well(model):
    features = np.tile(np.arange(4000) % 7, (DIMS.n_mels, 1))
    code, probability, _ = model.detect_language(features=features)
    _, probabilities = model.model.detect_language(features[:, :3000].astype(np.float32))
    assert probabilities[code] == probability == max(probabilities.values())


def test_clips_take_the_place_of_the_filter_and_lead_the_detection(model):
    pipeline = BatchedInferencePipeline(model)
    clips = [{"start": 5.0, "end": 20.0}, {"start": 31.0, "end": 45.5}]
    stamped = {**GREEDY, "without_timestamps": False}
    segments, info = pipeline.transcribe(AUDIO, clip_timestamps=clips, **stamped)
    seeks = [segment.seek for segment in segments]
    assert seeks[0] == 500 and 3100 in seeks
    assert all(500 <= seek < 2000 or 3100 <= seek < 4550 for seek in seeks)
    assert info.vad_options is None
    _, later = model.transcribe(AUDIO, clip_timestamps="5.03,20", **GREEDY)
    _, first = model.transcribe(AUDIO, **GREEDY)
    assert later.all_language_probs != first.all_language_probs


def test_pieces_of_a_recording(model):
    pipeline = BatchedInferencePipeline(model)
    ways = {"vad_filter": False, "without_timestamps": False, "chunk_length": 20, **GREEDY}
    segments, info = pipeline.transcribe(AUDIO, language="en", **ways)
    same = model.model.transcribe(
        AUDIO, language="en", batch_size=8, chunk_length=20, temperature=0.0, no_speech_threshold=None
    )
    wanted = [segment["tokens"] for segment in same["segments"] if segment["text"]]
    assert [segment.tokens for segment in segments] == wanted
    assert len({segment["seek"] for segment in same["segments"]}) >= 4 and info.duration == 70
    with pytest.raises(OptionError, match="batch_size"):
        pipeline.transcribe(AUDIO, vad_filter=False, batch_size=0)


@pytest.mark.parametrize("batched", [False, True])
def test_fast_words_are_the_engines(model, monkeypatch, batched):
    def wandering(queries, heads, window):
        chance = np.random.default_rng(queries.shape[1])
        return chance.standard_normal((len(heads), queries.shape[1], 1500)).astype(np.float32)

    monkeypatch.setattr(model.model.mock, "scores", wandering)
    ways = {"language": "en", "word_timestamps": "fast", **GREEDY}
    if batched:
        more = {"vad_filter": False, "without_timestamps": False}
        segments, _ = BatchedInferencePipeline(model).transcribe(AUDIO, **ways, **more)
    else:
        segments, _ = model.transcribe(AUDIO, **ways)
    found = [(word.word, word.start, word.end) for segment in segments for word in segment.words]
    same = model.model.transcribe(
        AUDIO,
        language="en",
        word_timestamps="fast",
        temperature=0.0,
        no_speech_threshold=None,
        batch_size=8 if batched else None,
    )
    words = [word for segment in same["segments"] for word in segment["words"]]
    assert found == [(word["word"], word["start"], word["end"]) for word in words] and found


def test_options_that_are_not_here_are_refused(model):
    for arguments, reason in (
        ({"length_penalty": 0.5}, "length_penalty is 0.5; only 1 and 0 are here"),
        ({"chunk_length": 10}, "chunk_length other than 30"),
        ({"beam_size": 1, "patience": 2}, "patience needs a beam_size above 1"),
        ({"hallucination_silence_threshold": 2.0}, "needs word_timestamps=True"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"language": "klingon"}, "klingon"),
        ({"language": "en", "multilingual": True}, "leave language out"),
    ):
        with pytest.raises(OptionError, match=reason):
            model.transcribe(AUDIO, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"compute_type": "int16"},
        {"num_workers": 2},
        {"device_index": 1},
        {"local_files_only": True},
        {"files": {}},
        {"revision": "main"},
        {"use_auth_token": "x"},
        {"flash_attention": True},
    ],
)
def test_ways_to_load_that_are_not_here_are_refused(arguments):
    with pytest.raises(OptionError, match=next(iter(arguments))):
        WhisperModel("tiny.en", **arguments)


def test_a_model_is_loaded_by_this_packages_names(monkeypatch):
    given = {}

    def load(name, device, download_root, **more):
        given.update(name=name, device=device, download_root=download_root, **more)
        return TinyWhisper()

    monkeypatch.setattr(transcribe, "load_model", load)
    model = WhisperModel("base", device="cpu", compute_type="int8", cpu_threads=3, download_root="d")
    assert given == {"name": "base", "device": "cpu", "download_root": "d", "precision": "int8", "threads": 3}
    assert model.supported_languages[:3] == ["en", "zh", "de"]
    assert model.max_length == DIMS.n_text_ctx
    assert (model.feature_extractor.nb_max_frames, model.feature_extractor.sampling_rate) == (3000, 16000)
    assert (model.frames_per_second, model.tokens_per_second, model.time_precision) == (100, 50, 0.02)


def test_an_english_model_speaks_english(spectrogram):
    model = WhisperModel.of(TinyWhisper(DIMS))
    assert model.supported_languages == ["en"]
    with pytest.warns(MaxWhisperWarning, match="using English"):
        _, info = model.transcribe(AUDIO, language="fr", **GREEDY)
    assert info.language == "en"
    with pytest.warns(MaxWhisperWarning, match="multilingual is off"):
        segments, info = model.transcribe(AUDIO, multilingual=True, **GREEDY)
    assert (info.language, info.language_probability) == ("en", 1)
    assert list(segments)


def test_nothing_to_hear(model):
    segments, info = model.transcribe(np.zeros(0, np.float32))
    assert list(segments) == [] and info.duration == 0
    pipeline = BatchedInferencePipeline(model)
    segments, info = pipeline.transcribe(np.zeros(0, np.float32))
    assert (list(segments), info.language, info.language_probability) == ([], None, 0)
    assert info.vad_options.min_silence_duration_ms == 160


def test_suppressed_tokens_are_a_sorted_tuple():
    ranks = {bytes([i]): i for i in range(256)} | {b"x" * (i + 2): 256 + i for i in range(50001)}
    tokenizer = Tokenizer(Vocabulary(ranks), True, "transcribe", "en")
    found = get_suppressed_tokens(tokenizer, [13])
    assert found == tuple(sorted(found)) and 13 in found
    assert {tokenizer.sot, tokenizer.transcribe, tokenizer.translate, tokenizer.sot_prev} <= set(found)
