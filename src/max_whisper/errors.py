"""Errors and warnings that a caller may want to tell apart.

Everything that a user can cause derives from :class:`MaxWhisperError` and carries a message that
names the file, tensor or option at fault and, where there is one, the remedy. The command prints
that message; a library caller catches the class.
"""

from __future__ import annotations


class MaxWhisperError(Exception):
    """The base of every error that this package raises on purpose."""


class CheckpointError(MaxWhisperError):
    """A checkpoint is missing, damaged, of an unknown format, or lacks what was asked of it."""


class AudioError(MaxWhisperError, RuntimeError):
    """A recording cannot be read, or an array is not audio.

    A ``RuntimeError`` too, which is what openai-whisper raises where FFmpeg fails.
    """


class OptionError(MaxWhisperError, ValueError):
    """An option has a value that means nothing, or contradicts another option."""


class AlignmentError(MaxWhisperError):
    """A text cannot be placed in a recording, because the recording does not say it."""


class TokenizerError(MaxWhisperError):
    """A vocabulary is missing or is not Whisper's."""


class ArtifactError(MaxWhisperError):
    """A compiled graph or a packed weight file cannot be made, written or read."""


class DeviceError(MaxWhisperError):
    """The asked-for device does not exist here or cannot run the model."""


class OutputError(MaxWhisperError):
    """A transcript cannot be written."""


class StoppedError(MaxWhisperError):
    """A transcription was stopped by whoever asked for it, before its end."""


class MaxWhisperWarning(UserWarning):
    """The base of every warning that this package gives: a result stands, with a reservation."""


class AudioWarning(MaxWhisperWarning):
    """A recording was read in part; the message says how much."""


class ArtifactWarning(MaxWhisperWarning):
    """The package of compiled graphs cannot be used; the message says why. They are compiled here."""
