"""``max-whisper align AUDIO TEXT``: its flags, and the text that it is given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from max_whisper.command.flags import FLAGS, LISTEN_FLAGS, Flag, reference, shared
from max_whisper.command.inputs import STDIN
from max_whisper.errors import AlignmentError, OptionError
from max_whisper.utils import str2bool

FLAGS_OF_ALIGN: dict[str, tuple[Flag, ...]] = {
    "model": shared("model", "fp16"),
    "output": FLAGS["output"],
    "text": (
        *(flag for flag in FLAGS["task"] if flag.name == "--language"),
        Flag(
            "--original_split",
            "whether segments are the lines of TEXT, in place of its sentences",
            str2bool,
            False,
            kind="True or False",
        ),
        *(flag for flag in FLAGS["decoding"] if flag.name == "--token_logprobs"),
    ),
    "words": shared("words", "word_timestamps", "hallucination_silence_threshold"),
}


def all_flags() -> str:
    """The flags of all commands that transcribe or align, as Markdown tables for docs/cli.md."""
    own = reference({"align": FLAGS_OF_ALIGN["text"][1:]})
    return f"{reference()}\n{own}\n## Flags of listen\n\n{reference(LISTEN_FLAGS)}"


def align_parser(program: str) -> argparse.ArgumentParser:
    """The parser of ``max-whisper align``."""
    parser = argparse.ArgumentParser(
        prog=f"{program} align", description="Finds when the words of a known text are said in a recording."
    )
    parser.add_argument("audio", metavar="AUDIO", help="a file or URL, or - for standard input")
    parser.add_argument("text", metavar="TEXT", help="a UTF-8 text file, or - for standard input")
    for title, flags in FLAGS_OF_ALIGN.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            flag.add_to(group)
    return parser


def read_text(source: str, audio: str) -> str:
    """The text of a file, or of standard input.

    Raises:
        OptionError: There is no such file, or the recording is to come from standard input as well.
        AlignmentError: It is no UTF-8 text.
    """
    if source == STDIN and audio == STDIN:
        raise OptionError("AUDIO and TEXT cannot both come from standard input")
    try:
        content = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except OSError as error:
        raise OptionError(
            f"cannot read the text {source}: {error.strerror}; TEXT is a file, or - for standard input"
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AlignmentError(f"{source} is no UTF-8 text ({error.reason} at byte {error.start})") from error
