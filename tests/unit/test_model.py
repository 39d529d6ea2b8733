"""The Python surface, over a mock runtime."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import max_whisper
from max_whisper.errors import AlignmentError, AudioError, DeviceError, OptionError, StoppedError
from max_whisper.model import Whisper
from max_whisper.transcribe import prepared
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.segments import Progress, Segment, Transcript
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TinyModel, TinyTokenizer

TABLES = TinyModel(3, end=1.0)
FEATURES = (DIMS.n_audio_ctx, DIMS.n_audio_state)
PUBLIC = """DecodingOptions DecodingResult ModelDimensions StreamingTranscriber Whisper
    __version__ available_models decode detect_language load_audio load_model log_mel_spectrogram
    pad_or_trim transcribe"""


class TinyWhisper(Whisper):
    """A model of tables with the tests' vocabulary, and a spectrogram of whole numbers."""

    def __init__(self, dims=MULTILINGUAL):
        super().__init__(MockRuntime(dims, TABLES.logits, TABLES.features), None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")


@pytest.fixture
def model(monkeypatch):
    def whole_numbers(audio, n_mels, padding):
        if isinstance(audio, str):
            raise AudioError(f"{audio}: no such file")
        frames = (len(audio) + padding) // 160
        return np.tile((np.arange(frames) * len(audio) % 7).astype(np.float32), (DIMS.n_mels, 1))

    monkeypatch.setattr(prepared, "read_log_mel", whole_numbers)
    return TinyWhisper()


def mel(key):
    return np.full((DIMS.n_mels, 3000), key, np.float32)


def test_public_names_are_these():
    assert sorted(max_whisper.__all__) == sorted(PUBLIC.split())
    assert all(hasattr(max_whisper, name) for name in PUBLIC.split())


def test_the_version_is_the_projects():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\nversion = "{max_whisper.__version__}"\n' in project


def test_names_that_are_modules_and_functions_stay_functions():
    code = (
        "import max_whisper, max_whisper.transcribe, max_whisper.decoding, max_whisper.transcribe.scheduler;"
        "from max_whisper.transcribe import transcribe; from max_whisper.decoding import decode;"
        "assert max_whisper.transcribe is transcribe and max_whisper.decode is decode;"
        "import sys; late = 'max', 'torch', 'av', 'tiktoken', 'rich', 'max_whisper.transcribe.live', "
        "'max_whisper.checkpoints.ctranslate2', 'max_whisper.checkpoints.ggml', "
        "'max_whisper.checkpoints.openai';"
        "assert not {*late} & set(sys.modules)"
    )
    source = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": source})


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (max_whisper.load_model, ["name", "device", "download_root", "in_memory"]),
        (max_whisper.decode, ["model", "mel", "options"]),
        (max_whisper.detect_language, ["model", "mel", "tokenizer"]),
        (max_whisper.transcribe, ["model", "audio", "verbose"]),
        (max_whisper.load_audio, ["file", "sr"]),
        (max_whisper.log_mel_spectrogram, ["audio", "n_mels", "padding", "device"]),
        (max_whisper.pad_or_trim, ["array", "length", "axis"]),
    ],
)
def test_arguments_are_openai_whispers(function, names):
    assert list(inspect.signature(function).parameters)[: len(names)] == names


def test_one_window_gives_a_result_and_several_give_a_list(model):
    one = max_whisper.decode(model, mel(2), language="en")
    several = model.decode(np.stack([mel(1), mel(2)]), max_whisper.DecodingOptions(language="en"))
    assert isinstance(several, list) and len(several) == 2
    assert several[1].tokens == one.tokens and one.tokens
    assert one.audio_features.shape == FEATURES
    assert model.decode(one.audio_features, language="en").tokens == one.tokens


def test_the_language_is_one_or_several(model):
    token, probs = max_whisper.detect_language(model, mel(2))
    assert probs[max(probs, key=probs.get)] == pytest.approx(max(probs.values()))
    tokens, all_probs = model.detect_language(np.stack([mel(1), mel(2)]))
    assert tokens.shape == (2,) and tokens[1] == token and all_probs[1] == probs
    assert model.decode(mel(2), task="lang_id").language_probs == probs


def test_logits_are_those_after_every_token(model):
    features = model.embed_audio(mel(2))
    ids = [[1, 2, 3], [4, 5, 6]]
    expected = [[TABLES.logits(row[: i + 1], features) for i in range(3)] for row in ids]
    assert np.array_equal(model.logits(ids, features), np.array(expected))
    assert np.array_equal(model(mel(2), ids), np.array(expected))


@pytest.mark.parametrize("ids", [[[1] * 65], [[DIMS.n_vocab]], [[-1]], [1, 2]])
def test_tokens_that_no_model_can_read_are_refused(model, ids):
    with pytest.raises(OptionError):
        model.logits(ids, model.embed_audio(mel(2)))


@pytest.mark.parametrize("shape", [(3000,), (2, 3000), (DIMS.n_mels, 2999)])
def test_a_window_of_another_shape_is_refused(model, shape):
    with pytest.raises(AudioError, match="shape"):
        model.decode(np.zeros(shape, np.float32))


def test_moving_to_its_own_device_is_nothing_and_to_another_is_told(model):
    assert model.to("cpu") is model
    with pytest.raises(DeviceError, match=r"load_model\(name, device='cuda'\)"):
        model.to("cuda")


def test_stream_yields_the_segments_that_transcribe_returns(model):
    audio = np.zeros(16000 * 50, np.float32)
    result = max_whisper.transcribe(model, audio, language="en", no_speech_threshold=None)
    streamed = list(model.stream(audio, language="en", no_speech_threshold=None))
    assert [segment.as_dict() for segment in streamed] == result["segments"]
    assert len(streamed) > 1


def test_a_stream_that_is_left_leaves_the_model_free(model):
    stream = model.stream(np.zeros(16000 * 50, np.float32), no_speech_threshold=None)
    assert isinstance(next(stream), Segment)
    stream.close()
    scheduler = model._engine._scheduler
    assert not scheduler._jobs and scheduler._free_windows == [0]


def test_a_stream_that_is_collected_as_garbage_during_a_step_ends(model):
    scheduler = model._engine._scheduler
    step = scheduler.step

    def step_with_collection():
        scheduler.step = step
        gc.collect()
        return step()

    stream = model.stream(np.zeros(16000 * 50, np.float32), no_speech_threshold=None)
    assert isinstance(next(stream), Segment)
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle
    scheduler.step = step_with_collection
    worker = threading.Thread(target=model.transcribe, args=(np.zeros(16000 * 5, np.float32),), daemon=True)
    worker.start()
    worker.join(30)
    assert not worker.is_alive()
    assert not scheduler._jobs and not model._engine._left


def test_a_model_can_be_asked_while_it_streams(model):
    stream = model.stream(np.zeros(16000 * 90, np.float32), language="en", no_speech_threshold=None)
    first = next(stream)
    assert model.decode(mel(2), beam_size=3).tokens
    rest = list(stream)
    again = list(model.stream(np.zeros(16000 * 90, np.float32), language="en", no_speech_threshold=None))
    assert [first, *rest] == again


def test_another_thread_stops_a_stream_within_a_pass(model):
    stop = threading.Event()
    stream = model.stream(np.zeros(16000 * 90, np.float32), no_speech_threshold=None, stop=stop)
    next(stream)
    passes = len(model._engine._scheduler.runtime.passes)
    threading.Thread(target=stop.set).start()
    with pytest.raises(StoppedError, match="stopped"):
        list(stream)
    assert len(model._engine._scheduler.runtime.passes) <= passes + 1
    assert not model._engine._scheduler._jobs
    assert model.transcribe(np.zeros(16000 * 5), stop=threading.Event())["segments"] is not None


def test_progress_comes_with_every_window_and_ends_at_the_end(model):
    audio = np.zeros(16000 * 50, np.float32)
    events = model.events(audio, transcribe_options(language="en", no_speech_threshold=None))
    progress = [event for event in events if isinstance(event, Progress)]
    assert len(progress) > 1
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert (progress[-1].done, progress[-1].total) == (5000, 5000)


def test_async_streams_give_the_same_and_do_not_block_the_loop(model):
    audios = [np.zeros(16000 * seconds, np.float32) for seconds in (50, 33)]
    options = {"language": "en", "no_speech_threshold": None}

    async def collect(audio):
        return [segment async for segment in model.astream(audio, **options)]

    async def everything():
        slow = model._engine._scheduler.runtime
        forward, ticks, waited = slow.forward, 0, []

        def waiting(batch):
            waited.append(reached.wait(10))
            return forward(batch)

        async def tick():
            # The first pass waits until the loop has gone on beside it.
            nonlocal ticks
            await asyncio.sleep(0)
            ticks += 1
            reached.set()

        reached = threading.Event()
        slow.forward = waiting
        both = asyncio.gather(*map(collect, audios))
        await tick()
        found = await both
        assert ticks == 1 and all(waited)
        return found

    assert asyncio.run(everything()) == [list(model.stream(audio, **options)) for audio in audios]


def test_async_events_end_with_the_transcript(model):
    audio = np.zeros(16000 * 33, np.float32)

    async def collect():
        return [event async for event in model.aevents(audio, transcribe_options(language="en"))]

    *_, last = asyncio.run(collect())
    assert isinstance(last, Transcript) and last.as_dict() == model.transcribe(audio, language="en")


def test_a_cancelled_task_leaves_the_model_free(model):
    runtime = model._engine._scheduler.runtime
    forward, entered = runtime.forward, threading.Event()

    def slow(batch):
        entered.set()
        threading.Event().wait(0.05)
        return forward(batch)

    runtime.forward = slow

    async def run():
        async def listen():
            async for _ in model.astream(np.zeros(16000 * 900, np.float32), no_speech_threshold=None):
                pass

        task = asyncio.create_task(listen())
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Not a moment later: the thread has ended, too.
        assert not model._engine._scheduler._jobs
        stream = model.astream(np.zeros(16000 * 900, np.float32), no_speech_threshold=None)
        assert isinstance(await anext(stream), Segment)
        await stream.aclose()
        assert not model._engine._scheduler._jobs

    asyncio.run(run())


def test_an_error_reaches_whoever_awaits(model):
    async def run():
        async for _ in model.astream("missing.flac"):
            pass

    with pytest.raises(AudioError, match="missing"):
        asyncio.run(run())


def test_many_recordings_get_what_each_gets_alone_and_errors_stay_with_their_own(model):
    audios = [np.zeros(16000 * seconds, np.float32) for seconds in (50, 7, 33, 64)]
    options = transcribe_options(no_speech_threshold=None, beam_size=3, best_of=2)
    recordings = [*audios[:2], "missing.flac", *audios[2:]]
    outcomes, segments = {}, {}
    for number, event in model.events_of_many(recordings, options, at_once=3):
        if isinstance(event, Segment):
            segments.setdefault(number, []).append(event)
        elif isinstance(event, Transcript | Exception):
            assert number not in outcomes
            outcomes[number] = event
    assert isinstance(outcomes.pop(2), AudioError)
    for (number, outcome), audio in zip(sorted(outcomes.items()), audios):
        assert list(outcome.segments) == segments[number]
        alone = model.transcribe(audio, no_speech_threshold=None, beam_size=3, best_of=2)
        assert outcome.as_dict() == alone


def test_threads_share_a_model(model):
    seconds = (50, 7, 33, 64)
    expected = [model.transcribe(np.zeros(16000 * n), beam_size=2) for n in seconds]
    found = [None] * len(seconds)

    def work(i):
        found[i] = model.transcribe(np.zeros(16000 * seconds[i]), beam_size=2)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(seconds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_verbose_writes_segments_with_their_times(model, capsys):
    result = model.transcribe(np.zeros(16000 * 50), verbose=True, no_speech_threshold=None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Detected language: ")
    assert len(lines) == 1 + len(result["segments"])
    assert lines[1].startswith("[00:")
    model.transcribe(np.zeros(16000 * 5))
    assert capsys.readouterr().out == ""


def test_a_text_is_aligned_in_a_language_that_the_model_knows(model):
    audio = np.zeros(16000 * 5, np.float32)
    with pytest.raises(OptionError, match="the text is empty"):
        model.align(audio, " \n", language="French")
    with pytest.raises(OptionError, match="unsupported language"):
        model.align(audio, "ab", language="klingon")
    english = TinyWhisper(DIMS)
    with pytest.raises(OptionError, match="knows English only, not 'fr'"):
        english.align(audio, "ab", language="fr")
    with pytest.raises(AlignmentError, match=r"nothing of the text is heard.*'q, q'"):
        english.align(audio, "q, q")
    assert not english._engine._scheduler._jobs
