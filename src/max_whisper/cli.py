"""The command ``max-whisper``: recordings in, transcripts out.

Exit status: 0 if every recording was transcribed, 1 if one was not, 2 for a wrong command line,
130 after Ctrl-C. Files that are finished stay, whatever happens to the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import max_whisper
from max_whisper.checkpoints import cache_folder, list_models
from max_whisper.command.align import align_parser, read_text
from max_whisper.command.arguments import (
    check_word_flags,
    ladder,
    take_layout,
    take_model_args,
    take_vad_parameters,
    use_english,
    warn,
)
from max_whisper.command.display import Display
from max_whisper.command.flags import (
    FLAGS,
    LISTEN_FLAGS,
    MODEL_FLAGS,
)
from max_whisper.command.inputs import Recording, recordings
from max_whisper.errors import AudioError, MaxWhisperError, MaxWhisperWarning, OptionError, OutputError
from max_whisper.transcribe.forced import AlignOptions
from max_whisper.transcribe.options import TranscribeOptions, transcribe_options
from max_whisper.writers import ResultWriter, get_writer

PROGRAM = "max-whisper"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = "Transcribes recordings with OpenAI's Whisper on MAX."
_OTHERS = f"""\
other commands:
  {PROGRAM} models           list the models and those that are here
  {PROGRAM} prepare MODEL    fetch and compile models ahead of their first use
  {PROGRAM} align AUDIO TEXT find when the words of a known text are said
  {PROGRAM} listen           transcribe a microphone, or standard input, as it comes
  {PROGRAM} compare AUDIO    transcribe with several engines and compare
  {PROGRAM} inspect AUDIO    compare with a reference stage by stage

An input that has the name of a command is written ./models.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What stands behind the program's name; taken from the process if None.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = _COMMANDS[given.pop(0)] if given and given[0] in _COMMANDS else _transcribe
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with _warnings_as_notes():
            return command(given)
    except MaxWhisperError as error:
        Display.note(str(error))
        return USAGE if isinstance(error, OptionError) else FAILED
    except KeyboardInterrupt:
        Display.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED


def run() -> NoReturn:
    """The program: :func:`main`, and the end of the process.

    What MAX takes down one by one when the interpreter ends, the system takes back at once.
    """
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone
        status = status or FAILED
    os._exit(status)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Shows this package's warnings as one line each, every time."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        Display.note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", MaxWhisperWarning)
        warnings.showwarning = show
        yield


def _transcribe(arguments: list[str]) -> int:
    parser = transcribe_parser()
    args = vars(parser.parse_args(arguments))
    try:
        run = _Run(args)
    except OptionError as error:
        parser.error(str(error))
    return run()


def transcribe_parser() -> argparse.ArgumentParser:
    """The parser of ``max-whisper AUDIO...``."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [OPTION...] AUDIO...",
        description=_DESCRIPTION,
        epilog=_OTHERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "audio", nargs="+", metavar="AUDIO", help="a file, a directory, or - for standard input"
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {max_whisper.__version__}")
    for title, flags in FLAGS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            flag.add_to(group)
    return parser


class _Run:
    """One call of ``max-whisper AUDIO...``, its arguments checked before anything is loaded."""

    def __init__(self, args: dict[str, Any]) -> None:
        """Raises :class:`OptionError` for arguments that make no sense."""
        check_word_flags(args)
        use_english(args)
        self.display = Display(args.pop("verbose"))
        self.recordings, self.failures = recordings(args.pop("audio"))
        self.layout = take_layout(args)
        self.writer = get_writer(args.pop("output_format"), args.pop("output_dir"))
        self.model_name = args.pop("model")
        self.model_args = take_model_args(args)
        temperature = ladder(args.pop("temperature"), args.pop("temperature_increment_on_fallback"))
        vad_parameters = take_vad_parameters(args)
        self.options = transcribe_options(temperature=temperature, vad_parameters=vad_parameters, **args)

    def __call__(self) -> int:
        """Transcribes everything; returns the exit status."""
        for failure in self.failures:
            self.display.note(failure)
        if self.recordings:
            _make_directory(self.writer)
            model = _load(self.display, self.model_name, self.model_args)
            options = _for_model(self.options, model, self.model_name)
            for recording in self.recordings:
                self._attempt(model, recording, options)
        if len(self.failures) > 1:
            self.display.note(f"{len(self.failures)} inputs failed")
        return FAILED if self.failures else OK

    def _attempt(self, model: max_whisper.Whisper, recording: Recording, options: TranscribeOptions) -> None:
        """Transcribes one recording; if that fails, says so and leaves the others to go on."""
        try:
            self._one(model, recording, options)
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            if not isinstance(error, MaxWhisperError):
                traceback.print_exc()
            reason = str(error) or type(error).__name__
            named = reason if recording.name in reason else f"{recording.name}: {reason}"
            self.failures.append(named)
            self.display.note(named)

    def _one(self, model: max_whisper.Whisper, recording: Recording, options: TranscribeOptions) -> None:
        if recording.stem_taken_by is not None:
            self.display.note(
                f"{recording.name} is written to {recording.stem}.*, "
                f"because {recording.stem_taken_by} has the same name"
            )
        with self.display.recording(recording.name):
            result = self.display.follow(model.events(recording.read(), options))
        self.writer.write(result.as_dict(), recording.stem, self.layout)


def _for_model(options: TranscribeOptions, model: max_whisper.Whisper, name: str) -> TranscribeOptions:
    """The options as far as the loaded model can follow them."""
    if model.is_multilingual:
        return options
    if options.decoding.language not in (None, "en"):
        warn(f"{name} knows English only, not {options.decoding.language!r}: using English")
    if options.decoding.task == "translate":
        warn(f"{name} knows English only and cannot translate: transcribing")
    return replace(options, decoding=replace(options.decoding, language="en", task="transcribe"))


def _make_directory(writer: ResultWriter) -> None:
    try:
        writer.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {writer.output_dir}: {error.strerror}") from error


def _load(display: Display, name: str, args: dict[str, Any]) -> max_whisper.Whisper:
    with display.preparing():
        return max_whisper.load_model(name, **args, progress=display.prepared)


def _prepare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} prepare", description="Fetches and compiles models ahead of their first use."
    )
    parser.add_argument("model", nargs="+", metavar="MODEL", help=f"as of {PROGRAM} --model")
    for flag in MODEL_FLAGS:
        flag.add_to(parser)
    args = vars(parser.parse_args(arguments))
    names, model_args, display = args.pop("model"), take_model_args(args), Display(False)
    for name in names:
        _load(display, name, model_args)
        display.line(f"{name} is ready")
    return OK


def _align(arguments: list[str]) -> int:
    parser = align_parser(PROGRAM)
    args = vars(parser.parse_args(arguments))
    source, audio = args.pop("text"), args.pop("audio")
    try:
        layout = take_layout(args)
        text = read_text(source, audio)
    except OptionError as error:
        parser.error(str(error))
    found, failures = recordings([audio])
    if failures or len(found) != 1:
        raise AudioError(failures[0] if failures else f"{audio} is a directory; a text has one recording")
    (recording,), display = found, Display(args.pop("verbose"))
    writer = get_writer(args.pop("output_format"), args.pop("output_dir"))
    name, model_args, options = args.pop("model"), take_model_args(args), AlignOptions(**args)
    _make_directory(writer)
    model = _load(display, name, model_args)
    with display.recording(recording.name):
        result = display.follow(model.align_events(recording.read(), text, options))
    writer.write(result.as_dict(), recording.stem, layout)
    return OK


def listen_parser() -> argparse.ArgumentParser:
    """The parser of ``max-whisper listen``."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} listen",
        usage="%(prog)s [OPTION...] [INPUT]",
        description="Transcribes while somebody speaks: prints words once they are agreed upon, and writes "
        "the transcript when the input ends or Ctrl-C is pressed.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        metavar="INPUT",
        help="microphone, - for standard input, a file or an address; if not given, standard input, "
        "or the microphone where that is a terminal",
    )
    for title, flags in LISTEN_FLAGS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            flag.add_to(group)
    return parser


def _listen(arguments: list[str]) -> int:
    from max_whisper.command.listen import LiveDisplay, Source, listen
    from max_whisper.command.sources import InputFormat
    from max_whisper.transcribe.live.options import live_options

    parser = listen_parser()
    args = vars(parser.parse_args(arguments))
    try:
        use_english(args)
        format = InputFormat(args.pop("input_format"), args.pop("sample_rate"), args.pop("channels"))
        source = Source(args.pop("input"), args.pop("microphone"), format)
        layout = take_layout(args)
        writer = get_writer(args.pop("output_format"), args.pop("output_dir"))
        show, name = LiveDisplay(args.pop("verbose")), args.pop("model")
        model_args = take_model_args(args)
        vad_parameters = take_vad_parameters(args)
        options = {**args, "vad_parameters": vad_parameters}
        live_options(**options)
    except OptionError as error:
        parser.error(str(error))
    _make_directory(writer)
    model = _load(Display(False), name, model_args)
    foreign = options["task"] == "translate" or options["language"] not in (None, "en")
    if foreign and not model.is_multilingual:
        raise OptionError(f"{name} knows English only: leave --task and --language out")
    transcript, number = listen(source, max_whisper.StreamingTranscriber(model, **options), show)
    writer.write(transcript.as_dict(), source.stem, layout)
    return 128 + number if number else OK


def _models(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} models", description="Lists the models by name.")
    parser.add_argument("--model_dir", metavar="DIR", help="folder for downloaded models")
    args = parser.parse_args(arguments)
    rows = [("model", "parameters", "size", "where")]
    for model in list_models(args.model_dir):
        where = "" if model.path is None else f"{model.kind}: {_shown(model.path)}"
        rows.append((model.name, f"{model.parameters / 1e6:.0f} M", f"{model.size / 1e6:.0f} MB", where))
    widths = [max(map(len, column)) for column in list(zip(*rows))[:3]]
    for name, parameters, size, where in rows:
        line = f"{name:<{widths[0]}}  {parameters:>{widths[1]}}  {size:>{widths[2]}}  {where}"
        Display.line(line.rstrip())
    Display.line(
        f"\nModels that are not here are fetched to {_shown(cache_folder(args.model_dir))} when used."
    )
    return OK


def _shown(path: Path) -> str:
    home = os.environ.get("HOME", "")
    text = str(path)
    return f"~{text[len(home) :]}" if len(home) > 1 and text.startswith(f"{home}/") else text


def _lab(command: str, arguments: list[str]) -> int:
    from max_whisper.parity.cli import run

    try:
        return run([command, *arguments])
    except MaxWhisperError as error:
        Display.note(str(error))
        return USAGE  # 1 says that the comparison was made, and found a difference


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "transcribe": _transcribe,
    "models": _models,
    "prepare": _prepare,
    "align": _align,
    "listen": _listen,
    "compare": partial(_lab, "compare"),
    "inspect": partial(_lab, "inspect"),
}
