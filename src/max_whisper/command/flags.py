"""The command's flags as data, from which the parser and docs/cli.md are made.

Names, types, defaults and choices are those of openai-whisper's ``whisper`` command, apart from
``--model`` and ``--precision``; those that it lacks are faster-whisper's parameters, but for
``--languages`` and ``--token_logprobs``. What neither has is named as subtitle editors and speech
services do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from max_whisper.checkpoints import DEFAULT_MODEL
from max_whisper.errors import OptionError
from max_whisper.subtitles import SubtitleLayout
from max_whisper.tokenizer import TASKS, language_code
from max_whisper.transcribe.options import APPEND_PUNCTUATIONS, FAST, PREPEND_PUNCTUATIONS
from max_whisper.utils import optional_float, optional_int, str2bool
from max_whisper.writers import ALL, FORMATS


@dataclass(frozen=True)
class Flag:
    """One option of the command.

    Attributes:
        name: With its two dashes.
        help: What it does, one phrase.
        type: Turns the text that was given into a value, or raises ``ValueError``.
        default: The value without the flag.
        choices: All values, where there are few.
        short: A second, short name.
        kind: What is shown for the value.
    """

    name: str
    help: str
    type: Callable[[str], Any] = str
    default: Any = None
    choices: Sequence[str] | None = None
    short: str | None = None
    kind: str = "TEXT"

    def add_to(self, parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
        """Adds the flag to a parser."""
        names = [self.name] if self.short is None else [self.name, self.short]
        shown = "" if self.default is None else f" (default: {str(self.default).replace('%', '%%')})"
        parser.add_argument(
            *names,
            type=_explained(self.type),
            default=self.default,
            choices=self.choices,
            metavar=None if self.choices else self.kind,
            help=self.help + shown,
        )


def _explained(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type whose own message reaches the user, where it has one."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    converted.__name__ = _KINDS.get(convert, getattr(convert, "__name__", "value")).lower()
    return converted


_KINDS: dict[Callable[[str], Any], str] = {
    str: "TEXT",
    int: "INT",
    float: "FLOAT",
    optional_int: "INT or None",
    optional_float: "FLOAT or None",
    str2bool: "True or False",
}


def _word_times(text: str) -> bool | str:
    return FAST if text == FAST else str2bool(text)


_KINDS[_word_times] = "True, False or fast"


def _flag(name: str, help: str, type: Callable[[str], Any] = str, default: Any = None, **more: Any) -> Flag:
    return Flag(name, help, type, default, kind=more.pop("kind", _KINDS.get(type, "TEXT")), **more)


# Those of the graphs' precision module, which is not loaded to parse a command line.
PRECISIONS = ("auto", "float32", "bfloat16", "int8")

MODEL_FLAGS = (
    _flag("--model_dir", "folder for downloaded models, in place of the cache folder", kind="DIR"),
    _flag("--device", "where to compute: auto or cpu", default="auto"),
    _flag("--precision", "how to multiply; auto is float32", default="auto", choices=PRECISIONS),
    _flag("--threads", "threads to compute with; 0 takes every core", optional_int, 0),
)

FLAGS: dict[str, tuple[Flag, ...]] = {
    "model": (
        _flag(
            "--model", "a name (see max-whisper models), a hub repository, or a path", default=DEFAULT_MODEL
        ),
        *MODEL_FLAGS,
        _flag("--fp16", "taken for whisper's sake, without effect; see --precision", str2bool, True),
    ),
    "output": (
        _flag("--output_dir", "where to write the transcripts", default=".", short="-o", kind="DIR"),
        _flag(
            "--output_format",
            f"what to write; all is {', '.join(ALL)}",
            default="all",
            short="-f",
            choices=(*FORMATS, "all"),
        ),
        _flag("--verbose", "whether to print each segment as it is found", str2bool, True),
    ),
    "task": (
        _flag("--task", "transcribe, or translate to English", default="transcribe", choices=TASKS),
        _flag("--language", "code or English name; detected where not given", language_code, kind="LANGUAGE"),
        _flag("--initial_prompt", "text to go before the first window, such as names and terms"),
        _flag("--carry_initial_prompt", "whether it goes before every window", str2bool, False),
        _flag(
            "--condition_on_previous_text",
            "whether each window is prompted with the text before it: more consistent, but errors may repeat",
            str2bool,
            True,
        ),
        _flag(
            "--prompt_reset_on_temperature",
            "after a window that took a higher temperature, the prompt starts anew",
            float,
            0.5,
        ),
        _flag("--hotwords", "names and terms to go before every window"),
        _flag("--prefix", "what the first window's text begins with"),
        _flag("--multichannel", "whether each channel is a speaker, transcribed by itself", str2bool, False),
        _flag(
            "--speaker_names",
            "what they are called, joined by commas; Speaker 1,Speaker 2 if not given",
            kind="NAMES",
        ),
        _flag("--clip_timestamps", "parts to transcribe: start,end,start,end,... in seconds", default="0"),
    ),
    "language detection": (
        _flag("--languages", "codes or names joined by commas: the language is one of them"),
        _flag("--language_detection_segments", "how many windows are heard for it at most", int, 1),
        _flag(
            "--language_detection_threshold",
            "above this probability, a language is taken at once; otherwise most windows decide",
            optional_float,
            0.5,
        ),
        _flag("--multilingual", "whether each window has a language of its own", str2bool, False),
    ),
    "batch": (
        _flag(
            "--batch_size",
            "cut each recording at pauses and decode so many pieces at once; None cuts nothing",
            optional_int,
        ),
        _flag("--chunk_length", "seconds in a piece at most; 30 if not given", float),
    ),
    "decoding": (
        _flag("--temperature", "0 takes the likeliest tokens; above, they are drawn", float, 0.0),
        _flag(
            "--temperature_increment_on_fallback",
            "added up to 1 while a window fails the thresholds below; None decodes once",
            optional_float,
            0.2,
        ),
        _flag("--best_of", "how many draws compete above temperature 0", optional_int, 5),
        _flag("--beam_size", "how many beams are searched at temperature 0; None is greedy", optional_int, 5),
        _flag("--patience", "how many finished beams to wait for, times the beams", float),
        _flag("--length_penalty", "exponent of the length that ranks beams, 0 to 1", float),
        _flag("--repetition_penalty", "above 1, makes words that were said less likely", float, 1.0),
        _flag("--no_repeat_ngram_size", "above 0, so many tokens in a row are never said twice", int, 0),
        _flag("--suppress_tokens", "token ids never to write; -1 stands for signs of sounds", default="-1"),
        _flag(
            "--compression_ratio_threshold", "above it, a text repeats itself: failed", optional_float, 2.4
        ),
        _flag(
            "--logprob_threshold", "below it, the average token is too unlikely: failed", optional_float, -1.0
        ),
        _flag(
            "--no_speech_threshold",
            "above this probability of no speech, a window that fails --logprob_threshold is silence",
            optional_float,
            0.6,
        ),
        _flag("--token_logprobs", "whether the JSON has the log-probability of each token", str2bool, False),
    ),
    "words": (
        _flag(
            "--word_timestamps",
            "whether each word gets its times; fast takes them from decoding, without a further pass",
            _word_times,
            False,
        ),
        _flag("--prepend_punctuations", "marks that go with the next word", default=PREPEND_PUNCTUATIONS),
        _flag("--append_punctuations", "marks that go with the word before", default=APPEND_PUNCTUATIONS),
        _flag("--highlight_words", "whether subtitles underline words as they are spoken", str2bool, False),
        _flag("--max_line_width", "characters in a line of a subtitle", optional_int),
        _flag("--max_line_count", "lines in a subtitle; needs --max_line_width", optional_int),
        _flag("--max_words_per_line", "words in a subtitle, without --max_line_width", optional_int),
        _flag(
            "--break_at_clauses",
            "whether lines and subtitles end where a reader pauses, not where they are full; 42 "
            "characters (16 wide ones) and 2 lines if not given",
            str2bool,
            False,
        ),
        _flag(
            "--max_chars_per_second",
            "reading speed above which a subtitle stays longer, if there is time",
            optional_float,
        ),
        _flag("--min_cue_duration", "seconds that a subtitle stays, if there is time", optional_float),
        _flag("--max_cue_duration", "seconds after which a subtitle ends, or is cut", optional_float),
        _flag("--min_cue_gap", "seconds between a subtitle and the next", optional_float),
        _flag(
            "--hallucination_silence_threshold",
            "seconds of silence that are skipped around words that look invented",
            optional_float,
        ),
    ),
    "voice activity": (
        _flag("--vad_filter", "whether silence is left out first; needs max-whisper[vad]", str2bool, False),
        _flag("--vad_threshold", "probability at which speech begins; 0.5 if not given", float),
        _flag("--vad_min_speech_duration_ms", "shorter speech is left out; 0 if not given", int),
        _flag("--vad_max_speech_duration_s", "longer speech is cut; endless if not given", float),
        _flag(
            "--vad_min_silence_duration_ms",
            "shorter pauses belong to the speech around them; 2000 if not given",
            int,
        ),
        _flag("--vad_speech_pad_ms", "what is kept before and after speech; 400 if not given", int),
    ),
}

# How subtitles look: these mean nothing in other files, nor without the times of words.
LAYOUT_FLAGS = tuple(field.name for field in fields(SubtitleLayout))
WHISPER_LAYOUT_FLAGS = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")

# These mean nothing without the times of words.
WORD_FLAGS = (*LAYOUT_FLAGS, "hallucination_silence_threshold")

# With "vad_" before them, flags; without, the names of what they set.
VAD_PARAMETERS = (
    "threshold",
    "min_speech_duration_ms",
    "max_speech_duration_s",
    "min_silence_duration_ms",
    "speech_pad_ms",
)


def default_of(name: str) -> Any:
    """The value of a flag that is not given; its name is without dashes."""
    return next(flag.default for flags in FLAGS.values() for flag in flags if flag.name == f"--{name}")


def shared(title: str, *left_out: str) -> tuple[Flag, ...]:
    """The flags of a group that another command has as well; those left out are without dashes."""
    return tuple(flag for flag in FLAGS[title] if flag.name.removeprefix("--") not in left_out)


# Flags of ``max-whisper listen``: those of the command that hold live, and its own.
LISTEN_FLAGS: dict[str, tuple[Flag, ...]] = {
    "input": (
        _flag("--microphone", "number or part of the name of the microphone; the default one if not given"),
        _flag(
            "--input_format",
            "of standard input: s16le, s32le, f32le, u8 (raw samples), or a container by FFmpeg's name; "
            "auto knows most containers and takes all else for s16le",
            default="auto",
        ),
        _flag("--sample_rate", "of raw samples, in Hz", int, 16000),
        _flag("--channels", "of raw samples", int, 1),
    ),
    "model": FLAGS["model"],
    "output": FLAGS["output"],
    "task": shared(
        "task",
        *("carry_initial_prompt", "clip_timestamps", "prompt_reset_on_temperature", "prefix"),
        *("multichannel", "speaker_names"),
    ),
    "language detection": tuple(flag for flag in FLAGS["language detection"] if flag.name == "--languages"),
    "live": (
        _flag("--min_chunk_size", "seconds of new audio that are waited for", float, 1.0),
        _flag("--buffer_trimming_sec", "seconds of audio that are heard again at most", float, 15.0),
    ),
    "decoding": tuple(
        flag
        for flag in FLAGS["decoding"]
        if flag.name.endswith("_threshold")
        or flag.name in ("--suppress_tokens", "--repetition_penalty", "--no_repeat_ngram_size")
    ),
    "words": shared("words", "word_timestamps", "hallucination_silence_threshold"),
    "voice activity": (
        _flag("--vad_filter", "whether silence is left out; needs max-whisper[vad]", str2bool, True),
        _flag("--vad_threshold", "probability at which speech begins; 0.5 if not given", float),
        _flag("--vad_min_speech_duration_ms", "shorter speech is left out; 0 if not given", int),
        _flag("--vad_min_silence_duration_ms", "a pause that ends an utterance; 500 if not given", int),
        _flag("--vad_speech_pad_ms", "what is kept before and after speech; 300 if not given", int),
    ),
}


def reference(groups: Mapping[str, Sequence[Flag]] = FLAGS) -> str:
    """Flags as Markdown tables, for docs/cli.md."""
    lines = []
    for title, flags in groups.items():
        lines += [f"### {title.capitalize()}", "", "| flag | value | default | |", "|---|---|---|---|"]
        for flag in flags:
            names = f"`{flag.name}`" + (f", `{flag.short}`" if flag.short else "")
            kind = ", ".join(flag.choices) if flag.choices else flag.kind
            default = "" if flag.default is None else f"`{flag.default}`"
            lines.append(f"| {names} | {kind} | {default} | {flag.help} |")
        lines.append("")
    return "\n".join(lines)
