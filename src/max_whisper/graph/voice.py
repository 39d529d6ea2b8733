"""Silero VAD as a graph: what :mod:`max_whisper.transcribe.silero` computes, on the kernels' threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
from max.driver import Buffer
from max.dtype import DType
from max.engine import Model
from max.graph import TensorType, ops
from numpy.typing import NDArray

from max_whisper.graph.encoder import team_type
from max_whisper.graph.module import GraphModule
from max_whisper.graph.packing import Array, pack_silero

Floats = NDArray[np.float32]

WINDOW = 512  # samples that get one probability


def add_voice(graphs: GraphModule) -> None:
    """Samples -> the probability of speech in each window of them, (windows,) float32.

    Inputs: samples (n,), weights' addresses (17,) int64, windows (windows,) int32 of which only the
    length counts, team (2,).
    """
    device = graphs.device
    types = [
        TensorType(DType.float32, ("samples",), device),
        TensorType(DType.int64, ("weights",), device),
        TensorType(DType.int32, ("windows",), device),
        team_type(device),
    ]
    with graphs.graph("voice", types) as graph:
        inputs = [value.tensor for value in graph.inputs]
        out = TensorType(DType.float32, inputs[2].shape, device)
        graph.output(*ops.custom("whisper_voice", device, inputs, [out]))


class Voice:
    """The voice activity detector of a model; threads may share it.

    Args:
        weights: Gives Silero VAD's arrays by their names in its file, when they are first needed.
        model: The graph of :func:`add_voice`.
        team: The model's threads; see :func:`max_whisper.graph.team.team_of`.
    """

    def __init__(self, weights: Callable[[], Mapping[str, Floats]], model: Model, team: Buffer) -> None:
        self._weights = weights
        self._model = model
        self._team = team
        self._lock = threading.Lock()
        self._arrays: list[Array] = []

    def __call__(self, samples: Floats) -> list[float]:
        """The probability of speech in each 512 of (n,) samples; the last are filled up with zeros."""
        if not len(samples):
            return []
        with self._lock:
            # The kernel reads the arrays where they lie.
            self._arrays = self._arrays or pack_silero(self._weights())
            (found,) = self._model.execute(
                Buffer.from_numpy(np.require(samples, np.float32, ["C", "W"])),
                Buffer.from_numpy(np.array([array.ctypes.data for array in self._arrays], np.int64)),
                Buffer.from_numpy(np.zeros(-(-len(samples) // WINDOW), np.int32)),
                self._team,
            )
            probabilities: list[float] = found.to_numpy().tolist()
        return probabilities
