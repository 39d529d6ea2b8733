"""What a command line means: arguments checked, and turned into the library's values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from max_whisper.command.flags import (
    LAYOUT_FLAGS,
    VAD_PARAMETERS,
    WHISPER_LAYOUT_FLAGS,
    WORD_FLAGS,
    default_of,
)
from max_whisper.errors import MaxWhisperWarning, OptionError
from max_whisper.subtitles import SubtitleLayout
from max_whisper.writers import SUBTITLES


def take_layout(args: dict[str, Any]) -> SubtitleLayout:
    """How subtitles are to look, taken out of the arguments.

    Raises:
        OptionError: For what makes no sense, or is for subtitles where none are written.
    """
    check_subtitle_flags(args)
    return SubtitleLayout.of({name: args.pop(name) for name in LAYOUT_FLAGS})


def check_word_flags(args: dict[str, Any]) -> None:
    """Refuses, or tells, flags that have no effect beside the others.

    Raises:
        OptionError: For those that need the times of words.
    """
    for name in WORD_FLAGS:
        if args[name] and not args["word_timestamps"]:
            raise OptionError(f"--{name} requires --word_timestamps True")
    for name, wanted in (
        ("prepend_punctuations", "word_timestamps"),
        ("append_punctuations", "word_timestamps"),
        ("carry_initial_prompt", "initial_prompt"),
        ("prompt_reset_on_temperature", "condition_on_previous_text"),
    ):
        if args[name] != default_of(name) and not args[wanted]:
            warn(f"--{name} has no effect without --{wanted}")
    if args["token_logprobs"] and args["output_format"] not in ("json", "all"):
        warn(f"--token_logprobs has no effect on {args['output_format']}: the JSON has them")
    threshold = "language_detection_threshold"
    if args[threshold] != default_of(threshold) and args["language_detection_segments"] == 1:
        warn(f"--{threshold} has no effect without --language_detection_segments")


def check_subtitle_flags(args: dict[str, Any]) -> None:
    """Flags of whisper's that have no effect are told, as there; of this command's own, refused."""
    chosen = args["output_format"]
    for name in LAYOUT_FLAGS:
        if args[name] and chosen not in (*SUBTITLES, "all"):
            if name not in WHISPER_LAYOUT_FLAGS:
                raise OptionError(f"--{name} is for subtitles, and --output_format {chosen} has none")
            warn(f"--{name} has no effect on {chosen}")
    if args["break_at_clauses"]:
        return
    if args["max_line_count"] and not args["max_line_width"]:
        warn("--max_line_count has no effect without --max_line_width")
    if args["max_words_per_line"] and args["max_line_width"]:
        warn("--max_words_per_line has no effect with --max_line_width")


def take_vad_parameters(args: dict[str, Any]) -> dict[str, Any] | None:
    """The parameters of the voice activity filter that are given, taken out of the arguments."""
    given = {name: args.pop(f"vad_{name}", None) for name in VAD_PARAMETERS}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not args["vad_filter"]:
        raise OptionError(f"--vad_{next(iter(given))} requires --vad_filter True")
    return given or None


def use_english(args: dict[str, Any]) -> None:
    """What a model's name says of its language needs no loading.

    Raises:
        OptionError: For options that have to find a language.
    """
    if args["model"].endswith(".en"):
        if args["language"] not in (None, "en"):
            warn(f"{args['model']} knows English only, not {args['language']!r}: using English")
        for name, default in (
            ("languages", None),
            ("multilingual", False),
            ("language_detection_segments", 1),
        ):
            if args.get(name, default) != default:
                raise OptionError(f"{args['model']} knows English only: leave --{name} out")
        args["language"] = "en"


def ladder(temperature: float, increment: float | None) -> list[float]:
    """The temperatures to try, the same floats as openai-whisper's command."""
    if increment is None:
        return [temperature]
    if increment <= 0:
        raise OptionError(f"--temperature_increment_on_fallback is {increment}; it must be above 0, or None")
    ladder: list[float] = np.arange(temperature, 1.0 + 1e-6, increment).tolist()
    return ladder or [temperature]


def take_model_args(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`max_whisper.load_model`, taken out of the command's."""
    device, threads = args.pop("device"), args.pop("threads")
    return {
        "device": None if device == "auto" else device,
        "download_root": args.pop("model_dir"),
        "precision": args.pop("precision"),
        "threads": threads or 0,
    }


def warn(message: str) -> None:
    """Warns whoever gave the command."""
    warnings.warn(message, MaxWhisperWarning, stacklevel=2)
