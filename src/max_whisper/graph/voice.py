"""Silero VAD as a graph: what :mod:`max_whisper.transcribe.silero` computes, on the kernels' threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.graph import DeviceRef, Graph, TensorType, ops
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.artifacts import GraphSpec, Progress, load_graphs
from max_whisper.graph.encoder import team_type
from max_whisper.graph.layers import KERNELS
from max_whisper.graph.packing import Array, pack_silero

Floats = NDArray[np.float32]

WINDOW = 512  # samples that get one probability

#: The graph is the same for every model.
VOICE = GraphSpec("voice", ModelDimensions(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "float32")


def voice_graph(device: DeviceRef) -> Graph:
    """Samples -> the probability of speech in each window of them, (windows,) float32.

    Inputs: samples (n,), weights' addresses (17,) int64, windows (windows,) int32 of which only the
    length counts, team (2,).
    """
    types = [
        TensorType(DType.float32, ("samples",), device),
        TensorType(DType.int64, ("weights",), device),
        TensorType(DType.int32, ("windows",), device),
        team_type(device),
    ]
    with Graph("whisper_voice", input_types=types, custom_extensions=[KERNELS]) as graph:
        inputs = [value.tensor for value in graph.inputs]
        out = TensorType(DType.float32, inputs[2].shape, device)
        graph.output(*ops.custom("whisper_voice", device, inputs, [out]))
    return graph


class Voice:
    """The voice activity detector of a model, loaded when it is first asked; threads may share it.

    Args:
        weights: Gives Silero VAD's arrays by the names that its file has for them.
        team: The model's threads; see :func:`max_whisper.graph.team.team_of`.
        progress: Told of compilation.
    """

    def __init__(
        self, weights: Callable[[], Mapping[str, Floats]], team: Buffer, progress: Progress | None = None
    ) -> None:
        self._weights = weights
        self._team = team
        self._progress = progress
        self._lock = threading.Lock()
        self._loaded: tuple[Model, Buffer] | None = None
        self._arrays: list[Array] = []

    def __call__(self, samples: Floats) -> list[float]:
        """The probability of speech in each 512 of (n,) samples; the last are filled up with zeros."""
        if not len(samples):
            return []
        with self._lock:
            model, addresses = self._loaded = self._loaded or self._load()
            (found,) = model.execute(
                Buffer.from_numpy(np.require(samples, np.float32, ["C", "W"])),
                addresses,
                Buffer.from_numpy(np.zeros(-(-len(samples) // WINDOW), np.int32)),
                self._team,
            )
            probabilities: list[float] = found.to_numpy().tolist()
        return probabilities

    def _load(self) -> tuple[Model, Buffer]:
        # The kernel reads the arrays where they lie.
        self._arrays = pack_silero(self._weights())
        addresses = np.array([array.ctypes.data for array in self._arrays], np.int64)
        (graph,) = load_graphs([VOICE], self._progress)
        return InferenceSession(devices=[CPU()]).init(graph), Buffer.from_numpy(addresses)
