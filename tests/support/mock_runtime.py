"""A runtime that computes nothing and watches everything."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.decoding.candidates import candidates
from max_whisper.decoding.passes import run_by_passes
from max_whisper.decoding.runtime import Batch, Candidates, Ran, Run
from max_whisper.transcribe.alignment import token_begins

#: Logits (n_vocab,) for the token after a history, heard over a window's features.
Model = Callable[[Sequence[int], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cell:
    """One position of a cache row: everything that a real key and value would depend on."""

    history: tuple[int, ...]
    encoding: int


def fingerprint(history: Sequence[int]) -> int:
    """A number that tells histories apart, exact in float32: this mock's queries."""
    return zlib.crc32(np.array(history, np.int64).tobytes()) >> 8


class MockRuntime:
    """Answers from a function of the history, and fails at the first inconsistent batch.

    It remembers for each cache cell the whole history under which it was written. A token may
    only see cells that were written under the very history that it continues, over the same
    encoding; anything else (a stale cell, another row's, a gap, a released window) would be
    silently wrong numbers in a real runtime, and is an assertion here.
    """

    def __init__(
        self,
        dims: ModelDimensions,
        model: Model,
        embed: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._dims = dims
        self.model = model
        self.embed = embed
        self.rows = self.capacity = 0
        self.passes: list[Batch] = []
        self.encodings = 0
        self._cells: list[list[Cell | None]] = []
        self._windows: dict[int, tuple[int, np.ndarray]] = {}

    @property
    def dims(self) -> ModelDimensions:
        return self._dims

    def reserve(self, rows: int, windows: int) -> None:
        assert rows > 0 and windows > 0
        self.rows, self.capacity = rows, windows
        self._cells = [[None] * self.dims.n_text_ctx for _ in range(rows)]
        self._windows = {}

    def encode(self, mel: np.ndarray, window: int) -> None:
        assert mel.shape == (self.dims.n_mels, self._frames) and mel.dtype == np.float32
        assert self.embed is not None
        self.attend(self.embed(mel), window)

    @property
    def _frames(self) -> int:
        return 3000

    def attend(self, features: np.ndarray, window: int) -> None:
        assert features.shape == (self.dims.n_audio_ctx, self.dims.n_audio_state)
        assert 0 <= window < self.capacity
        self.encodings += 1
        self._windows[window] = (self.encodings, features)

    def features(self, window: int) -> np.ndarray:
        return self._windows[window][1]

    def forward(self, batch: Batch) -> Candidates:
        self.passes.append(batch)
        self._check_form(batch)
        histories = self._write(batch)
        logits = np.stack(
            [
                self.model(histories[i], self._windows[int(batch.windows[i])][1])
                for i in batch.outputs.tolist()
            ]
        ).astype(np.float32)
        queries = np.zeros((1, len(batch.tokens), self.dims.n_text_state), np.float32)
        queries[0, :, 0] = [fingerprint(history) for history in histories]
        return candidates(logits, batch.constraints, batch.k, queries)

    def run(self, run: Run) -> Ran:
        return run_by_passes(self.forward, run)

    def alignment(
        self,
        queries: np.ndarray,
        heads: Sequence[tuple[int, int]],
        window: int,
        positions: int,
        wanted: slice,
    ) -> np.ndarray:
        return token_begins(self.scores(queries, heads, window), positions, wanted)

    def scores(self, queries: np.ndarray, heads: Sequence[tuple[int, int]], window: int) -> np.ndarray:
        raise AssertionError("this mock has no cross-attention")

    def _check_form(self, batch: Batch) -> None:
        count = len(batch.tokens)
        for name in ("tokens", "rows", "positions", "windows"):
            array = getattr(batch, name)
            assert array.dtype == np.int32 and array.shape == (count,), name
        assert batch.outputs.dtype == np.int32 and len(batch.outputs) == len(batch.constraints) > 0
        assert batch.sources.dtype == np.int32
        assert batch.sources.shape == (self.rows, self.dims.n_text_ctx)
        assert count and batch.k >= 0
        for array, limit in [
            (batch.tokens, self.dims.n_vocab),
            (batch.rows, self.rows),
            (batch.positions, self.dims.n_text_ctx),
            (batch.sources, self.rows),
            (batch.outputs, count),
        ]:
            assert array.min() >= 0 and array.max() < limit
        assert set(batch.windows.tolist()) <= self._windows.keys(), "a window that was never encoded"
        cells = list(zip(batch.rows.tolist(), batch.positions.tolist()))
        assert len(set(cells)) == len(cells), "a cell is written twice in one pass"
        last: dict[int, int] = {}
        for row, position in cells:
            assert last.get(row, -1) < position, "a row's tokens are out of order"
            last[row] = position

    def _write(self, batch: Batch) -> list[tuple[int, ...]]:
        """Writes all cells, in order of position, and returns what each token sees."""
        histories: dict[int, tuple[int, ...]] = {}
        for i in np.argsort(batch.positions, kind="stable").tolist():
            row, position = int(batch.rows[i]), int(batch.positions[i])
            assert batch.sources[row, position] == row, "a row must keep its own newest cell"
            encoding = self._windows[int(batch.windows[i])][0]
            seen: tuple[int, ...] = ()
            for p in range(position):
                cell = self._cells[int(batch.sources[row, p])][p]
                assert cell is not None, f"row {row} reads position {p}, which was never written"
                assert cell.encoding == encoding, f"row {row} reads a cell of another window"
                assert cell.history[:-1] == seen, f"row {row} reads a cell of another past"
                seen = cell.history
            histories[i] = (*seen, int(batch.tokens[i]))
            self._cells[row][position] = Cell(histories[i], encoding)
        return [histories[i] for i in range(len(batch.tokens))]
