"""``max-whisper listen``, over a model that hears one word a second."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import types
import wave
from pathlib import Path

import numpy as np
import pytest

import max_whisper
from max_whisper import cli
from max_whisper.command import listen as command
from max_whisper.command.listen import LiveDisplay
from max_whisper.command.sources import InputFormat, Pump, from_file, from_microphone
from max_whisper.errors import AudioError, DeviceError, OptionError
from max_whisper.transcribe.live import Agreed, Tail
from max_whisper.transcribe.segments import Segment, Word
from support.spoken import RATE, SpokenWhisper, live_in_this_world, speech

SAMPLES = speech(range(10))
SAID = "ask not what your country can do for you stop."


def s16(samples):
    return np.rint(samples * 32768).astype("<i2").tobytes()


@pytest.fixture
def model(monkeypatch, tmp_path):
    live_in_this_world(monkeypatch)
    model = SpokenWhisper()
    # Words of this world begin with a blank of their own.
    monkeypatch.setattr(max_whisper, "load_model", lambda name, **_: model)
    monkeypatch.setattr(
        max_whisper,
        "StreamingTranscriber",
        lambda model, **options: command.StreamingTranscriber(model, suppress_blank=False, **options),
    )
    monkeypatch.chdir(tmp_path)
    return model


@pytest.fixture
def stdin(monkeypatch):
    def give(content, terminal=False):
        file = content if hasattr(content, "read") else io.BytesIO(content)
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=file, isatty=lambda: terminal))

    return give


def test_words_are_printed_once_and_written_in_all_formats(model, stdin, capsys):
    stdin(s16(SAMPLES))
    assert cli.main(["listen", "--model", "tiny.en"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{SAID}\n", "")
    assert sorted(path.name for path in Path().iterdir()) == [
        f"stdin.{suffix}" for suffix in ("json", "srt", "tsv", "txt", "vtt")
    ]
    result = json.loads(Path("stdin.json").read_text())
    assert result["text"].split() == SAID.split() and result["language"] == "en"
    words = [word for segment in result["segments"] for word in segment["words"]]
    assert [round(word["start"]) for word in words] == list(range(10))


def test_not_verbose_prints_nothing_and_subtitles_are_set_in_lines(model, stdin, capsys):
    stdin(s16(SAMPLES))
    given = "-f srt --verbose False --max_line_width 12 --max_line_count 1 --vad_filter False"
    assert cli.main(["listen", "-", *given.split()]) == 0
    assert capsys.readouterr().out == ""
    assert Path("stdin.srt").read_text().splitlines()[2] == "ask not what"


def test_ctrl_c_keeps_what_was_heard(model, stdin, capsys):
    class Speaker(io.BytesIO):
        """Goes silent after ten seconds, and Ctrl-C is pressed."""

        def read1(self, count):
            read = super().read1(count)
            if not read:
                os.kill(os.getpid(), signal.SIGINT)
                over.wait(20)
            return read

    over = threading.Event()
    stdin(Speaker(s16(SAMPLES)))
    assert cli.main(["listen", "-f", "txt"]) == 130
    over.set()
    assert Path("stdin.txt").read_text().split() == SAID.split()
    assert "stopping" in capsys.readouterr().err


def wav(samples, rate=RATE, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(s16(np.repeat(samples, channels)))
    return file.getvalue()


class Pipe(io.RawIOBase):
    """Gives at most ``most`` bytes at a time, and cannot go back."""

    def __init__(self, content, most):
        self._file, self._most = io.BytesIO(content), most

    def read1(self, count=-1):
        return self._file.read(min(count, self._most))


TONE = np.sin(np.arange(2 * RATE) / 20).astype(np.float32) / 2


@pytest.mark.parametrize("most", [3, 1000, 1 << 20])
def test_samples_and_containers_come_through_a_pipe(most):
    def decoded(content, format=InputFormat()):  # noqa: B008
        return np.concatenate(list(from_file(Pipe(content, most), format)))

    assert np.abs(decoded(s16(TONE)) - TONE).max() < 1e-4
    assert np.abs(decoded(wav(TONE)) - TONE).max() < 1e-4
    assert np.abs(decoded(wav(TONE, channels=2), InputFormat("wav")) - TONE).max() < 1e-4
    floats = np.repeat(TONE, 2).astype("<f4").tobytes()
    assert np.abs(decoded(floats, InputFormat("f32le", RATE, 2)) - TONE).max() < 1e-6
    bytes_ = np.rint(TONE * 127 + 128).astype("u1").tobytes()
    assert np.abs(decoded(bytes_, InputFormat("u8")) - TONE).max() < 0.02
    slow = np.interp(np.arange(0, 2, 1 / 8000), np.arange(len(TONE)) / RATE, TONE).astype(np.float32)
    again = decoded(s16(slow), InputFormat("s16le", 8000))
    assert abs(len(again) - len(TONE)) < 50 and np.abs(again[500:30000] - TONE[500:30000]).max() < 0.05


def test_samples_come_as_soon_as_they_are_there():
    class Slow(Pipe):
        taken = 0

        def read1(self, count=-1):
            self.taken += 1
            return super().read1(count)

    for content in (s16(TONE), wav(np.tile(TONE, 60))):
        pipe = Slow(content, 3200)
        next(from_file(pipe, InputFormat()))
        assert pipe.taken <= 24, "more was read ahead than two seconds"


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        (b"", [], "standard input is empty"),
        (b"fLaC" + bytes(1000), [], "not a recording"),
        (s16(TONE), ["--input_format", "flac"], "no audio stream"),
    ],
)
def test_input_that_is_no_audio(content, arguments, reason, model, stdin, capsys):
    stdin(content)
    assert cli.main(["listen", *arguments]) == 1
    assert reason in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--input_format", "docx"], "input_format 'docx' is unknown"),
        (["--sample_rate", "0"], "at least 1"),
        (["--min_chunk_size", "9"], "min_chunk_size is 9"),
        (["--vad_filter", "False", "--vad_threshold", "0.3"], "--vad_threshold requires --vad_filter True"),
        (["--beam_size", "5"], "--beam_size"),
        (["-", "--microphone", "3"], "--microphone has no effect where - is listened to"),
        (["talk.wav", "--input_format", "u8"], "are for standard input"),
        (["--input_format", "wav", "--sample_rate", "8000"], "a container says itself"),
        (["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_command_lines(arguments, reason, model, stdin, capsys):
    stdin(b"")
    with pytest.raises(SystemExit) as caught:
        cli.main(["listen", *arguments])
    assert caught.value.code == 2 and reason in capsys.readouterr().err


def test_a_file_is_listened_to_as_well(model, capsys):
    Path("talk.wav").write_bytes(wav(SAMPLES))
    assert cli.main(["listen", "talk.wav", "-f", "txt"]) == 0
    assert Path("talk.txt").read_text().split() == SAID.split()
    assert cli.main(["listen", "missing.wav"]) == 1
    assert "missing.wav: no such file" in capsys.readouterr().err


class PortAudioError(Exception):
    pass


def fake_sounddevice(rates=(RATE,), default=48000):
    module = types.ModuleType("sounddevice")
    module.PortAudioError = PortAudioError

    def check_input_settings(samplerate, **_):
        if samplerate not in rates:
            raise PortAudioError("Invalid sample rate")

    class InputStream:
        def __init__(self, samplerate, callback, device, **_):
            if device == "none":
                raise ValueError("No input device matching 'none'")
            self.samplerate, self.callback = samplerate, callback

        def __enter__(self):
            for start in range(0, self.samplerate, 1000):
                times = np.arange(start, start + 1000) / self.samplerate
                data = np.sin(times * 800)[:, None].astype(np.float32)
                self.callback(data, len(data), None, None)

        def __exit__(self, *_):
            module.closed = True

    module.check_input_settings, module.InputStream = check_input_settings, InputStream
    module.query_devices = lambda device, kind: {"default_samplerate": float(default)}
    return module


@pytest.mark.parametrize("rates", [(RATE,), (48000,)])
def test_a_microphone_is_heard_at_the_rate_it_has(rates, monkeypatch):
    module = fake_sounddevice(rates)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    pieces, found = from_microphone(), np.empty(0, np.float32)
    while len(found) < 15000:
        found = np.concatenate([found, next(pieces)])
    pieces.close()
    assert module.closed
    assert np.abs(found[500:15000] - np.sin(np.arange(500, 15000) / RATE * 800)).max() < 0.02


def test_microphones_that_are_not_there(monkeypatch, model, stdin, capsys):
    stdin(b"", terminal=True)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["listen"]) == 2
    assert 'pip install "max-whisper[live]"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice())
    with pytest.raises(DeviceError, match=r"No input device matching .* lists the devices"):
        next(from_microphone("none"))

    class NoPortAudio:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    with pytest.raises(DeviceError, match="libportaudio2"):
        next(from_microphone())


def test_the_pump_loses_the_oldest_where_the_source_cannot_wait():
    pump = Pump(iter([np.full(RATE, i, np.float32) for i in range(9)]), most=3, loses=True)
    pump._thread.join(10)
    assert np.unique(pump.take(1)).tolist() == [6, 7, 8]
    assert pump.lost == 6 * RATE and pump.take(1) is None


def test_the_pump_lets_other_sources_wait_and_passes_errors_on():
    def source():
        for i in range(9):
            yield np.full(RATE, i, np.float32)
        raise AudioError("broken")

    pump, found = Pump(source(), most=2), []
    with pytest.raises(AudioError, match="broken"):
        while True:
            samples = pump.take(10)
            assert len(samples) <= 3 * RATE
            found += samples[::RATE].tolist()
    assert found == list(range(9)) and pump.lost == 0


def test_a_source_that_breaks_off_leaves_its_transcript(model, monkeypatch, capsys):
    def breaking(*_):
        yield SAMPLES
        raise AudioError("the cable is out")

    monkeypatch.setattr(command, "stream_audio", breaking)
    assert cli.main(["listen", "rtsp://somewhere/talk", "-f", "txt"]) == 0
    assert "the input broke off: the cable is out" in capsys.readouterr().err
    assert Path("talk.txt").read_text().split() == SAID.split()


def test_a_terminal_shows_the_tail_behind_the_agreed_words(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")

    def words(text):
        return tuple(Word(f" {word}", 0, 1, 0.9) for word in text.split())

    display = LiveDisplay(True)
    display.tell(Tail(words("asks")))
    display.tell(Agreed(words("ask not")))
    display.tell(Tail(words("what your country can do")))
    display.tell(Agreed(words("what your country")))
    display.tell(Segment(0, 0, 0.0, 1.0, "", (), 0.0, 0.0, 0.0, 0.0))
    display.end()
    assert screen(terminal.getvalue()) == ["ask not what your", "country", ""]
    # A tail never goes beyond its line, whatever its length: it could not be taken back.
    assert "\x1b[2m what your …\x1b[0m\x1b[12D" in terminal.getvalue()


def screen(text):
    """What a terminal shows in the end of text with the few sequences that we use."""
    lines, column = [""], 0
    while text:
        if text.startswith("\x1b["):
            body = text[2:].lstrip("0123456789")
            number, end = text[2 : len(text) - len(body)], body[0]
            if end == "K":
                lines[-1] = lines[-1][:column]
            elif end == "D":
                column -= int(number)
            text = body[1:]
            continue
        if text[0] == "\n":
            lines, column = [*lines, ""], 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + text[0] + lines[-1][column + 1 :]
            column += 1
        text = text[1:]
    return [line.rstrip() for line in lines]


def test_formats_that_mean_nothing():
    with pytest.raises(OptionError, match="unknown"):
        InputFormat("nothing")
