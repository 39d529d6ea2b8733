"""Pauses taken out of words.

Attention tells where one token follows another, not whether anything is said in between, so a pause is
counted to a word beside it. Loudness tells the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.transcribe.options import FRAMES_PER_SECOND
from max_whisper.transcribe.words import WordTiming

#: A frame is quiet that is no louder than this share of the way from a window's quiet to its loud frames.
QUIET = 0.2
#: Percentiles of loudness that count as a window's quiet and its loud frames.
FLOOR, CEILING = 5, 95
#: Quiet of fewer frames than this may belong to a word, as before a stop.
SHORTEST_PAUSE = 15
#: Frames next to the speech that are left to the word.
KEPT = 2


def quiet_frames(mel: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames of a window are quiet.

    Args:
        mel: (n_mels, frames) log-mel.

    Returns:
        (frames,): none where a window is about as loud everywhere.
    """
    loudness = mel.mean(axis=0)
    # Digital silence says nothing of how quiet the recording's own pauses are.
    audible = loudness[loudness > loudness.min() + 1e-3]
    if not len(audible):
        return np.zeros(len(loudness), bool)
    floor, ceiling = np.percentile(audible, [FLOOR, CEILING])
    quiet: NDArray[np.bool_] = loudness < floor + QUIET * (ceiling - floor)
    return quiet


def take_pauses_out(timings: Sequence[WordTiming], quiet: NDArray[np.bool_]) -> None:
    """Takes pauses out of words, in place; a word that is quiet as a whole stays as it is.

    Args:
        timings: Words, with times from the window's start.
        quiet: Of the window, see :func:`quiet_frames`.
    """
    for timing in timings:
        first = round(timing.start * FRAMES_PER_SECOND)
        last = min(round(timing.end * FRAMES_PER_SECOND), len(quiet))
        loud = _loudest_part(quiet[first:last])
        if loud is not None:
            begin, end = loud
            if begin:
                timing.start = (first + max(0, begin - KEPT)) / FRAMES_PER_SECOND
            if first + end < last:
                timing.end = (first + min(last - first, end + KEPT)) / FRAMES_PER_SECOND


def _loudest_part(quiet: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The stretch between pauses that has the most loud frames; None where no frame is loud."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    pauses = [(int(i), int(j)) for i, j in edges.reshape(-1, 2) if j - i >= SHORTEST_PAUSE]
    bounds = [0, *(bound for pause in pauses for bound in pause), len(quiet)]
    parts = list(zip(bounds[::2], bounds[1::2]))
    counts = [int((~quiet[i:j]).sum()) for i, j in parts]
    return parts[int(np.argmax(counts))] if any(counts) else None
