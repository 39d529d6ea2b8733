"""The numpy model behind the seam that decoding knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.decoding.candidates import candidates
from max_whisper.decoding.passes import run_by_passes
from max_whisper.decoding.runtime import Batch, HostCandidates, Ran, Run
from max_whisper.parity.numpy_model import Array, NumpyWhisper, attention
from max_whisper.transcribe.alignment import token_begins


class NumpyRuntime:
    """A :class:`~max_whisper.decoding.runtime.Runtime` over :class:`NumpyWhisper`."""

    def __init__(self, model: NumpyWhisper) -> None:
        self._model = model
        self._caches: list[tuple[Array, Array]] = []
        self._features: dict[int, Array] = {}
        self._cross: dict[int, list[tuple[Array, Array]]] = {}

    @property
    def dims(self) -> ModelDimensions:
        """The model's dimensions."""
        return self._model.dims

    def reserve(self, rows: int, windows: int) -> None:
        """Makes room; see the protocol. Windows need none."""
        shape = (rows, self.dims.n_text_ctx, self.dims.n_text_state)
        self._caches = [
            (np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(self.dims.n_text_layer)
        ]

    def encode(self, mel: NDArray[np.float32], window: int) -> None:
        """Encodes a window and keeps it."""
        self.attend(self._model.encode(np.asarray(mel, dtype=np.float32)), window)

    def attend(self, features: NDArray[np.float32], window: int) -> None:
        """Keeps given encoder output."""
        self._features[window] = features
        self._cross[window] = self._model.cross(features)

    def features(self, window: int) -> NDArray[np.float32]:
        """The encoder output of a kept window."""
        return self._features[window]

    def forward(self, batch: Batch) -> HostCandidates:
        """One pass of the decoder."""
        queries: list[Array] = []
        heads = self.dims.n_text_head

        def attend(layer: int, query: Array, key: Array, value: Array) -> Array:
            keys, values = self._caches[layer]
            keys[batch.rows, batch.positions] = key
            values[batch.rows, batch.positions] = value
            mixed = np.empty_like(query)
            for n, (row, position) in enumerate(zip(batch.rows, batch.positions)):
                at = (batch.sources[row, : position + 1], np.arange(position + 1))
                mixed[n] = attention(query[n : n + 1], keys[at], values[at], heads, None)[0]
            return mixed

        def cross_attend(layer: int, query: Array) -> Array:
            queries.append(query)
            mixed = np.empty_like(query)
            for window in np.unique(batch.windows):
                of = batch.windows == window
                mixed[of] = attention(query[of], *self._cross[int(window)][layer], heads, None)
            return mixed

        hidden = self._model.decode(batch.tokens, batch.positions, attend, cross_attend)
        logits = self._model.logits(hidden[batch.outputs])
        return candidates(logits, batch.constraints, batch.k, np.stack(queries))

    def run(self, run: Run) -> Ran:
        """Several steps, one pass after the other."""
        return run_by_passes(self.forward, run)

    def alignment(
        self,
        queries: NDArray[np.float32],
        heads: Sequence[tuple[int, int]],
        window: int,
        positions: int,
        wanted: slice,
    ) -> NDArray[np.integer]:
        """The position at which each wanted token begins; see the protocol."""
        width = self.dims.n_text_state // self.dims.n_text_head
        scores = []
        for layer, head in heads:
            of = slice(head * width, (head + 1) * width)
            key = self._cross[window][layer][0]
            scores.append(queries[layer][:, of] @ key[:, of].T * np.float32(width**-0.5))
        return token_begins(np.stack(scores), positions, wanted)
