"""Sounds in which nobody speaks, made of numbers: the same for everybody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

#: Semitones above the lowest A of each chord's root, and the chord upon it.
CHORDS = ((0, (0, 3, 7)), (5, (0, 4, 7)), (7, (0, 4, 7)), (3, (0, 4, 7)))
BEATS_A_MINUTE = 108


def silence(seconds: float) -> Samples:
    """Digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def white(seconds: float) -> Samples:
    """White noise at -20 dB of full scale."""
    return coloured(seconds, 0.1, np.ones_like)


def pink(seconds: float) -> Samples:
    """Pink noise at -20 dB of full scale."""
    return coloured(seconds, 0.1, lambda f: 1 / np.sqrt(np.maximum(f, 1)))


def room(seconds: float) -> Samples:
    """A quiet room, below -40 dB: rumble, mains hum with an overtone, and a little hiss."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hum = 0.004 * np.sin(2 * np.pi * 50 * time) + 0.002 * np.sin(2 * np.pi * 150 * time)
    rumble = coloured(seconds, 0.003, lambda f: np.exp(-f / 150))
    return (rumble + hum + coloured(seconds, 0.0003, np.ones_like, seed=8)).astype(np.float32)


def music(seconds: float) -> Samples:
    """Four chords without end: plucked strings and a bass with overtones, a melody that trembles, drums."""
    chance = np.random.default_rng(7)
    beat = round(60 / BEATS_A_MINUTE * SAMPLE_RATE)
    count = round(seconds * SAMPLE_RATE)
    out = np.zeros(count + 4 * beat)
    time = np.arange(2 * beat) / SAMPLE_RATE
    fading = np.exp(-3 * time)
    hiss = chance.standard_normal(2 * beat)
    for number, start in enumerate(range(0, count, beat)):
        root, chord = CHORDS[number // 4 % len(CHORDS)]
        sound = 0.5 * _string(_pitch(root), time) * fading
        for step in chord:
            sound += 0.25 * _string(_pitch(24 + root + step), time) * fading
        melody = _pitch(36 + root + int(chance.choice(chord)))
        trembling = time + 0.002 * np.sin(2 * np.pi * 5.5 * time) / 5.5
        sound += 0.3 * _string(melody, trembling) * np.minimum(1, 20 * time) * np.exp(-1.5 * time)
        sound += (0.5 if number % 2 else 0.2) * hiss * np.exp(-40 * time)
        out[start : start + 2 * beat] += sound
    out = out[:count]
    return (0.1 / np.sqrt(np.square(out).mean()) * out).astype(np.float32)


SOUNDS: dict[str, Callable[[float], Samples]] = {
    "digital silence": silence,
    "white noise": white,
    "pink noise": pink,
    "room tone": room,
    "music": music,
}


def coloured(
    seconds: float, level: float, gain: Callable[..., NDArray[np.float64]], seed: int = 7
) -> Samples:
    """Noise whose spectrum has a shape.

    Args:
        seconds: How long.
        level: The root of its mean square.
        gain: How loud each frequency (Hz) is against the others.
        seed: Of the noise.
    """
    count = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    noise = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(count, 1 / SAMPLE_RATE)), count)
    return (level / np.sqrt(np.square(noise).mean()) * noise).astype(np.float32)


def _pitch(semitones: int) -> float:
    """A frequency, in semitones above 55 Hz."""
    return float(55 * 2 ** (semitones / 12))


def _string(frequency: float, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone with eight overtones."""
    tones = [np.sin(2 * np.pi * n * frequency * time) / n**1.2 for n in range(1, 10)]
    return np.asarray(np.sum(tones, axis=0))
