"""The command around a model that says what it was asked to do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import max_whisper
from max_whisper import cli
from max_whisper.audio import as_samples
from max_whisper.command import align, flags
from max_whisper.command.inputs import recordings
from max_whisper.errors import AlignmentError, CheckpointError
from max_whisper.transcribe.forced import AlignOptions
from max_whisper.transcribe.options import TranscribeOptions
from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript, Word

ROOT = Path(__file__).parent.parent.parent
JFK = ROOT / "tests" / "data" / "jfk.flac"


class FakeModel:
    """Transcribes every recording as the number of its samples."""

    def __init__(self) -> None:
        self.is_multilingual = True
        self.loaded: dict[str, Any] = {}
        self.options: list[TranscribeOptions] = []
        self.fail: BaseException | None = None
        self.aligned: tuple[int, str, AlignOptions] | None = None

    def load(self, name: str, **arguments: Any) -> FakeModel:
        self.loaded = {"name": name, **arguments}
        return self

    def events(self, audio: Any, options: TranscribeOptions) -> Generator[Event, None, Transcript]:
        samples = as_samples(audio)
        if self.fail is not None:
            raise self.fail
        self.options.append(options)
        if options.decoding.language is None:
            yield Language("de", 0.9)
        words = (Word(f" {samples.size}", 0.0, 1.0, 0.9), Word(" samples", 1.0, 1.5, 0.9))
        segment = Segment(
            *(0, 0, 0.0, 1.5, f" {samples.size} samples", (1, 2), 0.0, -0.5, 1.0, 0.1),
            words=words if options.word_timestamps else None,
        )
        yield Progress(0, 100)
        yield segment
        yield Progress(100, 100)
        return Transcript(segment.text, (segment,), options.decoding.language or "de")

    def align_events(
        self, audio: Any, text: str, options: AlignOptions
    ) -> Generator[Event, None, Transcript]:
        if self.fail is not None:
            raise self.fail
        self.aligned = as_samples(audio).size, text, options
        words = (Word(" to", 0.0, 0.5, 0.9), Word(" be", 0.5, 1.0, 0.9))
        segment = Segment(
            *(0, 0, 0.0, 1.0, " to be", (1, 2), 0.0, -0.5, 1.0, 0.1), words, token_logprobs=(-0.1, -0.2)
        )
        yield segment
        return Transcript(segment.text, (segment,), "en")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(max_whisper, "load_model", fake.load)
    monkeypatch.chdir(tmp_path)
    return fake


def flag(name: str) -> flags.Flag:
    return next(flag for group in flags.FLAGS.values() for flag in group if flag.name == name)


def test_prints_and_writes_everything(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(JFK)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Detected language: German\n[00:00.000 --> 00:01.500]  176000 samples\n"
    assert printed.err == ""
    assert sorted(path.name for path in Path().iterdir()) == [
        f"jfk.{s}" for s in ("json", "srt", "tsv", "txt", "vtt")
    ]
    assert json.loads(Path("jfk.json").read_text())["language"] == "de"
    assert model.loaded["name"] == "base"
    assert model.loaded["device"] is None


def test_defaults_are_openai_whispers_commands(model: FakeModel) -> None:
    assert cli.main([str(JFK), "-f", "txt"]) == 0
    options = model.options[0]
    assert options.fallback.temperatures == pytest.approx((0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    # the very floats, for a result's "temperature" is one of them
    assert list(options.fallback.temperatures) == np.arange(0.0, 1.0 + 1e-6, 0.2).tolist()
    assert (options.decoding.beam_size, options.decoding.best_of) == (5, 5)
    assert options.condition_on_previous_text
    assert options.fallback.no_speech_threshold == 0.6


def test_every_flag_arrives(model: FakeModel) -> None:
    given = (
        "--model tiny --model_dir m --device cpu --precision float32 --threads 3 --fp16 False -o out -f json "
        "--verbose False --task translate --language French --temperature 0.4 --best_of 2 --beam_size None "
        "--suppress_tokens 5,6 --initial_prompt Hi --carry_initial_prompt True --length_penalty 0.5 "
        "--condition_on_previous_text False --temperature_increment_on_fallback None "
        "--logprob_threshold None "
        "--compression_ratio_threshold 3 --no_speech_threshold 0.5 --clip_timestamps 1,2"
    )
    assert cli.main([str(JFK), *given.split()]) == 0
    arguments = {key: value for key, value in model.loaded.items() if key != "progress"}
    assert arguments == {
        "name": "tiny",
        "device": "cpu",
        "download_root": "m",
        "precision": "float32",
        "threads": 3,
    }
    options = model.options[0]
    assert options.decoding == max_whisper.DecodingOptions(
        task="translate", language="fr", best_of=2, length_penalty=0.5, suppress_tokens="5,6", fp16=False
    )
    assert options.fallback.temperatures == (0.4,)
    assert options.fallback.logprob_threshold is None
    assert options.fallback.compression_ratio_threshold == 3
    assert options.fallback.no_speech_threshold == 0.5
    assert (options.initial_prompt, options.carry_initial_prompt) == ("Hi", True)
    assert not options.condition_on_previous_text
    assert options.clips == (1, 2)
    assert [path.name for path in Path("out").iterdir()] == ["jfk.json"]


def test_flags_of_batches_names_and_languages_arrive(model: FakeModel) -> None:
    given = (
        "--batch_size 4 --chunk_length 60 --hotwords Names --prefix So --languages German,fr "
        "--language_detection_segments 3 --language_detection_threshold None "
        "--prompt_reset_on_temperature 0.3 --repetition_penalty 1.5 --no_repeat_ngram_size 3"
    )
    assert cli.main([str(JFK), *given.split(), "-f", "txt"]) == 0
    options = model.options[0]
    assert (options.batch_size, options.chunk_length) == (4, 60)
    assert (options.hotwords, options.prefix, options.prompt_reset_on_temperature) == ("Names", "So", 0.3)
    detection = options.detection
    assert (detection.languages, detection.segments, detection.threshold) == (("de", "fr"), 3, None)
    assert (options.decoding.repetition_penalty, options.decoding.no_repeat_ngram_size) == (1.5, 3)
    assert cli.main([str(JFK), "--multilingual", "True", "-f", "txt"]) == 0
    assert model.options[1].multilingual and model.options[1].batch_size is None


def test_words(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        "--word_timestamps True --hallucination_silence_threshold 2 "
        "--prepend_punctuations ( --append_punctuations )"
    )
    layout = "--max_line_width 3 --max_line_count 1 --max_words_per_line 4"
    assert cli.main([str(JFK), "-f", "srt", *given.split(), *layout.split()]) == 0
    options = model.options[0]
    assert (options.word_timestamps, options.hallucination_silence_threshold) == (True, 2)
    assert (options.prepend_punctuations, options.append_punctuations) == ("(", ")")
    wanted = "1\n00:00:00,000 --> 00:00:01,000\n176000\n\n2\n00:00:01,000 --> 00:00:01,500\nsamples\n\n"
    assert Path("jfk.srt").read_text() == wanted
    assert "--max_words_per_line has no effect with --max_line_width" in capsys.readouterr().err
    assert (
        cli.main(
            [str(JFK), "--word_timestamps", "True", "--highlight_words", "True", "--max_line_count", "1"]
        )
        == 0
    )
    assert "<u>samples</u>" in Path("jfk.vtt").read_text()
    assert "--max_line_count has no effect without --max_line_width" in capsys.readouterr().err


def test_flags_are_openai_whispers() -> None:
    # name -> default, from the table in openai-whisper's documentation of its command
    wanted: dict[str, Any] = {
        "model_dir": None,
        "output_dir": ".",
        "output_format": "all",
        "verbose": True,
        "task": "transcribe",
        "language": None,
        "temperature": 0,
        "best_of": 5,
        "beam_size": 5,
        "patience": None,
        "length_penalty": None,
        "suppress_tokens": "-1",
        "initial_prompt": None,
        "carry_initial_prompt": False,
        "condition_on_previous_text": True,
        "fp16": True,
        "temperature_increment_on_fallback": 0.2,
        "compression_ratio_threshold": 2.4,
        "logprob_threshold": -1.0,
        "no_speech_threshold": 0.6,
        "word_timestamps": False,
        "prepend_punctuations": "\"'“¿([{-",
        "append_punctuations": "\"'.。,，!！?？:：”)]}、",
        "highlight_words": False,
        "max_line_width": None,
        "max_line_count": None,
        "max_words_per_line": None,
        "threads": 0,
        "clip_timestamps": "0",
        "hallucination_silence_threshold": None,
    }
    assert {name: flag(f"--{name}").default for name in wanted} == wanted


def test_failed_recording_is_named_and_the_others_go_on(
    model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.wav").write_text("no audio")
    assert cli.main(["none.wav", str(JFK), "text.wav", "-f", "txt"]) == 1
    printed = capsys.readouterr()
    assert Path("jfk.txt").read_text() == "176000 samples\n"
    assert "max-whisper: none.wav: no such file\n" in printed.err
    assert "max-whisper: text.wav: not a recording" in printed.err
    assert printed.err.endswith("max-whisper: 2 inputs failed\n")
    assert "Traceback" not in printed.err
    assert not Path("none.txt").exists()


def test_defect_is_shown_in_full(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.fail = ZeroDivisionError("division by zero")
    assert cli.main([str(JFK)]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert f"max-whisper: {JFK}: division by zero\n" in printed


def test_damaged_recording_gives_a_warning(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.flac").write_bytes(JFK.read_bytes()[:100_000])
    assert cli.main(["cut.flac"]) == 0
    printed = capsys.readouterr()
    assert "max-whisper: warning: cut.flac: the file is damaged" in printed.err
    assert "84096 samples" in printed.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "AUDIO"),
        (["a.wav", "--nonsense"], "--nonsense"),
        (["a.wav", "--language", "klingon"], "klingon"),
        (["a.wav", "--output_format", "docx"], "docx"),
        (["a.wav", "--verbose", "yes"], "yes"),
        (["a.wav", "--precision", "int3"], "int3"),
        (["a.wav", "--beam_size", "many"], "many"),
        (["a.wav", "--beam_size", "0"], "beam_size"),
        (["a.wav", "--patience", "2", "--beam_size", "None"], "patience"),
        (["a.wav", "--clip_timestamps", "x"], "clip_timestamps"),
        (["a.wav", "--temperature_increment_on_fallback", "0"], "above 0"),
        (["a.wav", "--highlight_words", "True"], "--highlight_words requires --word_timestamps True"),
        (["a.wav", "--max_line_width", "40"], "--max_line_width requires --word_timestamps True"),
        (["a.wav", "--hallucination_silence_threshold", "2"], "requires --word_timestamps True"),
        (["a.wav", "--chunk_length", "20"], "needs batch_size"),
        (["a.wav", "--batch_size", "0"], "batch_size is 0"),
        (["a.wav", "--model", "tiny.en", "--multilingual", "True"], "leave --multilingual out"),
        (["a.wav", "--model", "tiny.en", "--languages", "de"], "leave --languages out"),
        (["a.wav", "--language", "de", "--multilingual", "True"], "leave language out"),
        (["prepare"], "MODEL"),
        (["models", "extra"], "extra"),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], reason: str, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
    assert not model.loaded
    assert not list(Path().iterdir())


def test_model_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise CheckpointError("there is no model 'gigantic'")

    monkeypatch.setattr(max_whisper, "load_model", refuse)
    assert cli.main([str(JFK), "--model", "gigantic", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "max-whisper: there is no model 'gigantic'\n"


def test_interrupt_keeps_what_is_finished(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path("other.flac")
    other.write_bytes(JFK.read_bytes())
    events = model.events

    def second_is_interrupted(audio: Any, options: TranscribeOptions) -> Any:
        if model.options:
            raise KeyboardInterrupt
        return (yield from events(audio, options))

    model.events = second_is_interrupted  # type: ignore[method-assign]
    assert cli.main([str(JFK), "other.flac", "-f", "txt"]) == 130
    assert sorted(path.name for path in Path().iterdir()) == ["jfk.txt", "other.flac"]
    assert "interrupted" in capsys.readouterr().err


def test_directory_that_cannot_be_made(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert cli.main([str(JFK), "-o", "file"]) == 1
    assert "cannot make the folder file: File exists" in capsys.readouterr().err
    assert not model.loaded


def test_full_disk_is_named(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f".jfk.txt.{os.getpid()}.part").symlink_to("/dev/full")
    assert cli.main([str(JFK), "-f", "txt"]) == 1
    assert f"{JFK}: cannot write jfk.txt: No space left on device" in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("language", ["German", "de"])
def test_english_model_and_another_language(
    language: str, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.is_multilingual = False
    assert cli.main([str(JFK), "--model", "tiny.en", "--language", language, "-f", "txt"]) == 0
    assert model.options[0].decoding.language == "en"
    assert (
        capsys.readouterr().err
        == "max-whisper: warning: tiny.en knows English only, not 'de': using English\n"
    )


def test_english_model_of_another_name(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.is_multilingual = False
    assert (
        cli.main([str(JFK), "--model", "./mine", "--language", "de", "--task", "translate", "-f", "txt"]) == 0
    )
    decoding = model.options[0].decoding
    assert (decoding.language, decoding.task) == ("en", "transcribe")
    printed = capsys.readouterr().err
    assert "./mine knows English only, not 'de': using English" in printed
    assert "./mine knows English only and cannot translate: transcribing" in printed


def test_not_verbose_prints_nothing(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(JFK), "--verbose", "False", "-f", "txt"]) == 0
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal_only(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main([str(JFK), "-f", "txt"]) == 0
    assert "jfk.flac" in terminal.getvalue()
    # the bar must not take what belongs into the pipe
    assert "176000 samples" in pipe.getvalue()
    assert "176000 samples" not in terminal.getvalue()


def test_standard_input(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def feed(content: bytes) -> None:
        stdin = types.SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stdin)

    feed(JFK.read_bytes())
    assert cli.main(["-", "-f", "txt"]) == 0
    assert Path("stdin.txt").read_text() == "176000 samples\n"
    feed(b"")
    assert cli.main(["-"]) == 1
    assert "standard input is empty" in capsys.readouterr().err


def test_directories_and_equal_names(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/talk.flac", "b/deep/talk.flac", "b/talk-2.flac", "b/notes.txt", "b/.hidden.flac"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(JFK.read_bytes())
    assert cli.main(["a", "b", "a/talk.flac", "./a/../a/talk.flac", "-f", "txt", "-o", "out"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["talk-2.txt", "talk-3.txt", "talk.txt"]
    assert (
        "b/deep/talk.flac is written to talk-3.*, because a/talk.flac has the same name"
        in capsys.readouterr().err
    )


def test_directory_without_recordings(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert cli.main(["empty"]) == 1
    assert "empty: the directory has no recordings" in capsys.readouterr().err
    assert not model.loaded


def test_missing_file_is_told_before_a_model_is_loaded(
    model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["none.wav"]) == 1
    assert capsys.readouterr().err == "max-whisper: none.wav: no such file\n"
    assert not model.loaded


def test_inputs_without_a_file_system() -> None:
    found, empty = recordings(["https://example.org/a/talk.mp3?x=1", "-", "-"])
    assert [(one.source, one.stem) for one in found] == [
        ("https://example.org/a/talk.mp3?x=1", "talk"),
        ("-", "stdin"),
    ]
    assert not empty


def test_commands_and_files_of_their_names(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models").write_bytes(JFK.read_bytes())
    assert cli.main(["./models", "-f", "txt"]) == 0
    assert Path("models.txt").exists()
    assert cli.main(["transcribe", "models", "-f", "txt", "-o", "out"]) == 0
    assert Path("out/models.txt").exists()
    capsys.readouterr()
    assert cli.main(["models", "--model_dir", "cache"]) == 0
    printed = capsys.readouterr().out
    for name in max_whisper.available_models():
        assert any(line.split()[0] == name for line in printed.splitlines() if line)
    assert "fetched to cache when used" in printed


def test_prepare(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "tiny", "base", "--precision", "float32"]) == 0
    assert capsys.readouterr().out == "tiny is ready\nbase is ready\n"
    assert model.loaded["name"] == "base"
    assert model.loaded["precision"] == "float32"


def test_loading_says_once_what_it_does(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    def load(name: str, progress: Any, **_: Any) -> FakeModel:
        for done in range(3):
            progress("compiling", done, 2)
        return model

    max_whisper.load_model = load  # restored by the fixture
    assert cli.main(["prepare", "tiny"]) == 0
    assert capsys.readouterr().err == "max-whisper: compiling\n"


def test_precisions_are_the_graphs() -> None:
    from max_whisper.graph.precision import PRECISIONS

    assert set(flags.PRECISIONS) == {"auto", *PRECISIONS}


def test_documented_flags_are_the_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page.partition("## Flags\n\n")[2] == align.all_flags(), "run scripts/write_cli_reference.py"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, wanted in (
        (["--help"], "max-whisper prepare MODEL"),
        (["--version"], max_whisper.__version__),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        assert wanted in capsys.readouterr().out


def test_module_is_the_command() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "max_whisper", "models"], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("model")


def test_reader_that_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "max_whisper", "models"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, b"")


def test_output_on_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "max_whisper", "models"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert process.returncode == 1
    assert process.stderr == b"max-whisper: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["compare", "inspect"])
def test_the_lab_answers_to_its_names(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "nosuch.flac"]) == 2
    assert "nosuch.flac" in capsys.readouterr().err


def test_align_writes_every_format(model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    Path("said.txt").write_bytes(b"\xef\xbb\xbfto\nbe")
    assert cli.main(["align", str(JFK), "said.txt", "--max_words_per_line", "1", "-o", "out"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("[00:00.000 --> 00:01.000]  to be\n", "")
    assert model.aligned == (176000, "to\nbe", AlignOptions())
    assert model.loaded["name"] == "base"
    assert sorted(path.suffix[1:] for path in Path("out").iterdir()) == ["json", "srt", "tsv", "txt", "vtt"]
    assert Path("out/jfk.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:00,500\nto\n\n2\n00:00:00,500 --> 00:00:01,000\nbe\n\n"
    )
    assert json.loads(Path("out/jfk.json").read_text())["segments"][0]["token_logprobs"] == [-0.1, -0.2]


def test_every_flag_of_align_arrives(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"to be")))
    given = (
        "--model tiny --model_dir m --device cpu --precision int8 --threads 3 -f txt --verbose False "
        "--language English --original_split True --token_logprobs True --prepend_punctuations ( "
        "--append_punctuations ) --highlight_words True --max_line_width 9 --max_line_count 2"
    )
    assert cli.main(["align", str(JFK), "-", *given.split()]) == 0
    assert model.aligned == (176000, "to be", AlignOptions("en", True, True, "(", ")"))
    assert (model.loaded["name"], model.loaded["precision"], model.loaded["threads"]) == ("tiny", "int8", 3)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([str(JFK), "missing.txt"], 2, "cannot read the text missing.txt: No such file or directory"),
        (["-", "-"], 2, "cannot both come from standard input"),
        ([str(JFK), "latin.txt"], 1, "latin.txt is no UTF-8 text"),
        (["missing.flac", "said.txt"], 1, "missing.flac: no such file"),
        (["folder", "said.txt"], 1, "folder is a directory; a text has one recording"),
        ([str(JFK), "said.txt", "--language", "Klingon"], 2, "unsupported language 'klingon'"),
        ([str(JFK), "said.txt", "--max_line_width", "-1"], 2, "max_line_width cannot be negative"),
        ([str(JFK), "said.txt"], 1, "nothing of the text is heard"),
    ],
)
def test_align_says_what_is_wrong(
    model: FakeModel, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, told: str
) -> None:
    Path("said.txt").write_text("to be")
    Path("latin.txt").write_bytes(b"caf\xe9 noir")
    Path("folder").mkdir()
    for name in ("a.flac", "b.flac"):
        (Path("folder") / name).touch()
    model.fail = AlignmentError("nothing of the text is heard")
    try:
        found = cli.main(["align", *arguments])
    except SystemExit as end:
        found = int(str(end.code))
    assert found == status
    assert told.lower() in capsys.readouterr().err.lower()
    assert not list(Path().glob("*.json"))
