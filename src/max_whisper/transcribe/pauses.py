"""Pauses: where a long recording may be cut, and what belongs to no word.

They are found in the log-mel that the model hears, so that no other model is needed and a recording
has its pauses in the same places wherever it is transcribed. Where a voice activity filter runs, its
opinion counts for cuts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH
from max_whisper.spectrogram import BLOCK, Mel
from max_whisper.transcribe.silero import WINDOW
from max_whisper.transcribe.speech import SpeechMap
from max_whisper.transcribe.words import WordTiming

Floats = NDArray[np.float32]

#: Percentiles of loudness: quiet; the usual speech of a recording; the loud frames of a window.
FLOOR, SPEECH, CEILING = 5, 80, 95

# Cuts.
#: Frames (10 ms) that ought to be silent around a cut. A pause of the longest width is as good a
#: place as there can be; one of the shortest is a third as good.
WIDTHS = (10, 25, 50)
#: A place to cut is looked for in every so many frames.
STRIDE = 50
#: How many windows more a recording may take for cuts in silence in place of cuts in speech.
PATIENCE = 2.0

# Words.
#: A frame is quiet that is no louder than this share of the way from a window's quiet to its loud frames.
QUIET = 0.2
#: Quiet of fewer frames than this may belong to a word, as before a stop.
SHORTEST_PAUSE = 15
#: Frames next to the speech that are left to the word.
KEPT = 2


def loudness(mel: Mel, frames: int) -> Floats:
    """How loud each frame is: 0 is the recording's quiet, 1 its usual speech.

    Args:
        mel: (n_mels, at least ``frames``) log-mel.
        frames: How many of them there are.

    Returns:
        (frames,) from 0 to 1.
    """
    parts = [mel[:, start : min(start + BLOCK, frames)].mean(axis=0) for start in range(0, frames, BLOCK)]
    levels: Floats = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not levels.size:
        return levels
    low, high = np.percentile(levels, (FLOOR, SPEECH))
    if high - low < 1e-3:
        return np.zeros(frames, np.float32)
    scaled: Floats = np.clip((levels - low) / (high - low), 0, 1)
    return scaled


def quiet_frames(mel: Floats) -> NDArray[np.bool_]:
    """Which frames of a window are quiet.

    Args:
        mel: (n_mels, frames) log-mel.

    Returns:
        (frames,): none where a window is about as loud everywhere.
    """
    levels: Floats = mel.mean(axis=0)
    # Digital silence says nothing of how quiet the recording's own pauses are.
    audible = levels[levels > levels.min() + 1e-3]
    if not audible.size:
        return np.zeros(len(levels), bool)
    low, high = np.percentile(audible, (FLOOR, CEILING))
    quiet: NDArray[np.bool_] = levels < low + QUIET * (high - low)
    return quiet


def speechiness(probabilities: Sequence[float], speech: SpeechMap) -> Floats:
    """How probable speech is in each frame of a recording's collected speech, by a detector.

    Args:
        probabilities: One for each window of 32 ms of the recording.
        speech: What was collected of it.

    Returns:
        (frames of the collected speech,) from 0 to 1.
    """
    known = np.asarray(probabilities, np.float32)
    starts = [np.arange(start, end, HOP_LENGTH) for start, end in speech.chunks]
    return known[np.concatenate(starts) // WINDOW] if starts else known[:0]


def cut_at_pauses(activity: Floats, clips: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """Cuts clips into pieces of which none is too long.

    Of all ways to cut, it takes the one with the fewest pieces and the quietest cuts: a piece that
    is not full costs as much to encode as one that is, and a word that is cut is lost.

    Args:
        activity: (frames,) from 0, silence, to 1, speech.
        clips: (start, end) frames.
        longest: The most frames that a piece may have, more than twice :data:`STRIDE`.

    Returns:
        (start, end) frames of the pieces, in order; together they are the clips.
    """
    badness = _badness(activity)
    pieces: list[tuple[int, int]] = []
    for start, end in clips:
        if end > start:
            bounds = _best_bounds(badness, start, end, longest)
            pieces.extend(pairwise(bounds))
    return pieces


def _badness(activity: Floats) -> Floats:
    """How bad each frame is as the first one of a piece: how active it is at most around it."""
    if not activity.size:
        return activity
    total = np.zeros(activity.shape, np.float32)
    for width in WIDTHS:
        padded = np.pad(activity, (width // 2, (width - 1) // 2), mode="edge")
        total += np.lib.stride_tricks.sliding_window_view(padded, width).max(axis=1)
    mean: Floats = total / np.float32(len(WIDTHS))
    return mean


def _best_bounds(badness: Floats, start: int, end: int, longest: int) -> list[int]:
    """Where the pieces of a clip begin, and where the last one ends."""
    if end - start <= longest:
        return [start, end]
    points = [start]
    for first in range(start + STRIDE, end, STRIDE):
        block = badness[first : min(first + STRIDE, end)]
        points.append(first + int(block.argmin()))
    points.append(end)
    at = np.array(points)
    price = 1 + PATIENCE * np.append(badness[at[:-1]], 0.0)
    cost, before = np.zeros(len(at)), np.zeros(len(at), np.intp)
    for i in range(1, len(at)):
        earliest = int(np.searchsorted(at, at[i] - longest))
        best = earliest + int(cost[earliest:i].argmin())
        cost[i], before[i] = cost[best] + price[i], best
    bounds, i = [end], len(at) - 1
    while i:
        i = int(before[i])
        bounds.append(points[i])
    return bounds[::-1]


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
