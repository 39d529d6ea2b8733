"""Small helpers under the names and the path that openai-whisper has them at."""

from __future__ import annotations

from max_whisper.decoding.options import compression_ratio
from max_whisper.writers import ResultWriter, format_timestamp, get_writer

__all__ = [
    "ResultWriter",
    "compression_ratio",
    "exact_div",
    "format_timestamp",
    "get_writer",
    "make_safe",
    "optional_float",
    "optional_int",
    "str2bool",
]


def exact_div(x: int, y: int) -> int:
    """``x / y`` where that is a whole number; ``ValueError`` where it is not."""
    quotient, rest = divmod(x, y)
    if rest:
        raise ValueError(f"{x} is not a multiple of {y}")
    return quotient


def make_safe(string: str) -> str:
    """The text with a question mark for what Python's default encoding cannot write.

    That encoding is UTF-8, which writes everything but lone surrogates.
    """
    return string.encode("utf-8", "replace").decode("utf-8")


def str2bool(string: str) -> bool:
    """``"True"`` and ``"False"`` as what they say; ``ValueError`` for anything else."""
    if string not in ("True", "False"):
        raise ValueError(f"expected True or False, not {string!r}")
    return string == "True"


def optional_int(string: str) -> int | None:
    """A whole number, or None for ``"None"``."""
    return None if string == "None" else int(string)


def optional_float(string: str) -> float | None:
    """A number, or None for ``"None"``."""
    return None if string == "None" else float(string)
