"""Whisper on MAX: encode, forward, align; arrays in, arrays out.

The caches are MAX buffers that the graphs change in place. Self-attention keeps one line a row,
cross-attention one block a window; neither is ever copied. Memory that was reserved but not
written costs nothing, so rooms are generous.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import CompiledModel, InferenceSession
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.decoding.runtime import ALL, Batch, Beams, Ran, Run
from max_whisper.errors import OptionError
from max_whisper.graph.artifacts import COMMON, ModuleSpec, Progress, load_modules
from max_whisper.graph.compile import open_device
from max_whisper.graph.constraints import ConstraintArrays
from max_whisper.graph.decoder import self_cache_shape
from max_whisper.graph.encoder import cross_cache_shape
from max_whisper.graph.packing import pack_cross, pack_decoder, pack_encoder
from max_whisper.graph.precision import (
    FLOAT16_WEIGHTS,
    Precision,
    choose_precision,
    fits_float16,
    suited,
)
from max_whisper.graph.side_by_side import available_cores
from max_whisper.graph.steps import weight_places
from max_whisper.graph.store import Arrays, is_packed, packed_weights
from max_whisper.graph.team import team_of
from max_whisper.graph.voice import Voice


@dataclass(frozen=True)
class MaxCandidates:
    """Candidates whose logits, if the batch wanted them, and queries stay in MAX buffers until asked for."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    watched: NDArray[np.float32]
    logits_buffer: Buffer
    query_buffers: Sequence[Buffer]

    def logits(self) -> NDArray[np.float32]:
        """(L, n_vocab) float32, before any constraint.

        Raises:
            ValueError: The batch did not say that they are wanted.
        """
        if len(self.tokens) and not self.logits_buffer.shape[0]:
            raise ValueError("this batch kept no logits")
        logits: NDArray[np.float32] = self.logits_buffer.to_numpy().copy()
        return logits

    def queries(self, tokens: slice = ALL) -> NDArray[np.float32]:
        """(n_text_layer, n, n_text_state) float32 cross-attention queries of some of the N tokens."""
        return np.stack([buffer.to_numpy()[tokens] for buffer in self.query_buffers])


class MaxRuntime:
    """A :class:`max_whisper.decoding.runtime.Runtime` of MAX graphs on one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: Device,
        common: CompiledModel,
        whisper: CompiledModel,
        *,
        device_name: str,
        precision: Precision,
        threads: int,
    ) -> None:
        """Use :func:`load_runtime`."""
        self._dims = checkpoint.dims
        self._precision = precision
        self.device_name = device_name
        self._device = device
        session = InferenceSession(devices=[device])
        # MAX reads weights where they lie: they must outlive the models.
        self._weights = weights(checkpoint, precision)
        self._decoder_weights = Buffer.from_numpy(weight_places(self._weights, checkpoint.dims, precision))
        self._graphs = session.init_all(whisper, weights_registry=self._weights)
        self._common = session.init_all(common)
        self._team = team_of(threads, self._common["team"])
        self._vocabulary = Buffer.from_numpy(np.zeros(checkpoint.dims.n_vocab, np.int8))
        self._constraints = ConstraintArrays()
        self._cache = self._new_cache(1)
        self._cross = self._new_cross(1)
        self._features: list[Buffer | None] = [None]

    @property
    def dims(self) -> ModelDimensions:
        """The model's dimensions."""
        return self._dims

    @property
    def precision(self) -> str:
        """The tier's name."""
        return self._precision.tier

    @property
    def silence(self) -> int | None:
        """See :class:`~max_whisper.graph.precision.Precision`."""
        return self._precision.silence

    def voice(self, weights: Callable[[], Mapping[str, NDArray[np.float32]]]) -> Voice:
        """A voice activity detector on the model's threads, given Silero VAD's weights."""
        return Voice(weights, self._common["voice"], self._team)

    def reserve(self, rows: int, windows: int) -> None:
        """Makes room for at least that many cache rows and windows; what they held is lost."""
        if rows > self._cache.shape[2]:
            self._cache = self._new_cache(rows)
        if windows > len(self._features):
            self._cross = self._new_cross(windows)
            self._features = [None] * windows

    def encode(self, mel: NDArray[np.float32], window: int) -> None:
        """Encodes a log-mel window (n_mels, an even number up to 2 * n_audio_ctx); see the protocol."""
        frames = 2 * self._dims.n_audio_ctx
        channels, given = mel.shape
        if channels != self._dims.n_mels or given % 2 or not 0 < given <= frames:
            raise OptionError(
                f"a window of this model is a log-mel of {self._dims.n_mels} channels and an even number of "
                f"frames, {frames} at most; this one has the shape {mel.shape}"
            )
        positions = np.zeros(given // 2, np.int32)
        self._features[window] = self._graphs["encoder"].execute(
            self._floats(mel), self._window(window), self._cross, self._team, self._ints(positions)
        )[0]

    def attend(self, features: NDArray[np.float32], window: int) -> None:
        """Keeps given encoder output (n_audio_ctx, n_audio_state) as ``window``."""
        expected = (self._dims.n_audio_ctx, self._dims.n_audio_state)
        if features.shape != expected:
            raise OptionError(f"encoder output of this model has shape {expected}, not {features.shape}")
        kept = self._floats(features)
        self._graphs["attend"].execute(kept, self._window(window), self._cross, self._team)
        self._features[window] = kept

    def features(self, window: int) -> NDArray[np.float32]:
        """The encoder output (n_audio_ctx, n_audio_state) of a kept window."""
        kept = self._features[window]
        if kept is None:
            raise ValueError(f"nothing is kept as window {window}")
        features: NDArray[np.float32] = kept.to_numpy().copy()
        return features

    def forward(self, batch: Batch) -> MaxCandidates:
        """One pass of the decoder."""
        tokens, logprobs, watched, logits, *queries = self._graphs["decoder"].execute(
            self._ints(batch.tokens),
            self._ints(batch.rows),
            self._ints(batch.positions),
            self._ints(batch.windows),
            self._ints(self._all_rows(batch.sources)),
            self._ints(batch.outputs),
            *(Buffer.from_numpy(array) for array in self._constraints.fill(batch.constraints)),
            Buffer.from_numpy(np.zeros(batch.k, np.int32)),
            Buffer.from_numpy(np.zeros(len(batch.outputs) if batch.logits else 0, np.int32)),
            self._vocabulary,
            self._decoder_weights,
            self._team,
            self._cache,
            self._cross,
        )
        return MaxCandidates(
            tokens.to_numpy(),
            logprobs.to_numpy(),
            watched.to_numpy(),
            logits,
            queries,
        )

    def run(self, run: Run) -> Ran:
        """Several steps in one call, until one sequence ends, or of beams a search."""
        standings = np.array(run.standings, np.int32)
        begins = [plan.timestamp_begin for plan in run.plans]
        starts = np.column_stack(
            [
                standings[:, 0],
                run.rows,
                run.positions,
                run.windows,
                standings[:, 1:],
                begins,
                np.full(len(begins), run.eot),
            ]
        )
        numbers = np.array([(plan.temperature, 1.0) for plan in run.plans], np.float32)
        seeds = run.seeds.view(np.int32).reshape(*run.seeds.shape, 2)
        beams = run.beams or Beams(0, np.zeros(len(begins), np.float32), np.zeros(1, np.int32))
        tokens, logprobs, queries, taken = self._graphs["steps"].execute(
            self._decoder_weights,
            self._ints(starts),
            self._ints(self._all_rows(run.sources)),
            self._ints(self._constraints.suppressed([plan.suppressed for plan in run.plans])),
            self._floats(numbers),
            self._floats(beams.sums),
            self._ints(beams.wanted),
            self._ints(seeds),
            Buffer.from_numpy(np.zeros(run.k, np.int32)),
            self._team,
            self._cache,
            self._cross,
        )
        count = int(taken.to_numpy()[0])
        return Ran(tokens.to_numpy()[:count], logprobs.to_numpy()[:count], queries.to_numpy()[:, :count])

    def _all_rows(self, sources: NDArray[np.int32]) -> NDArray[np.int32]:
        """A table of sources for all rows of the cache, which may have more."""
        missing = int(self._cache.shape[2]) - len(sources)
        return (
            np.concatenate([sources, np.zeros((missing, sources.shape[1]), np.int32)]) if missing else sources
        )

    def alignment(
        self,
        queries: NDArray[np.float32],
        heads: Sequence[tuple[int, int]],
        window: int,
        positions: int,
        wanted: slice,
    ) -> NDArray[np.int32]:
        """The position at which each wanted token begins; see the protocol."""
        (begins,) = self._graphs["alignment"].execute(
            self._floats(queries),
            self._ints(np.array(heads, np.int32).reshape(-1, 2)),
            self._ints(np.array([window, positions], np.int32)),
            self._ints(np.arange(queries.shape[1], dtype=np.int32)[wanted]),
            self._cross,
            self._team,
        )
        return np.asarray(begins.to_numpy())

    def _new_cache(self, rows: int) -> Buffer:
        return Buffer(DType.float32, self_cache_shape(self._dims, rows), self._device)

    def _new_cross(self, windows: int) -> Buffer:
        return Buffer(DType.int32, (windows, *cross_cache_shape(self._dims, self._precision)), self._device)

    @staticmethod
    def _window(window: int) -> Buffer:
        return Buffer.from_numpy(np.array([window], np.int32))

    @staticmethod
    def _floats(array: NDArray[np.float32]) -> Buffer:
        return Buffer.from_numpy(np.ascontiguousarray(array, np.float32))

    @staticmethod
    def _ints(array: NDArray[np.int32]) -> Buffer:
        return Buffer.from_numpy(np.ascontiguousarray(array, np.int32))


def load_runtime(
    checkpoint: Checkpoint,
    *,
    device: str | None = None,
    precision: str = "auto",
    threads: int = 0,
    progress: Progress | None = None,
) -> MaxRuntime:
    """Loads a checkpoint onto a device, compiling its graphs if this machine never did.

    Args:
        checkpoint: The model.
        device: ``cpu`` (None: the best there is).
        precision: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
        threads: Workers of a kernel; 0 takes one for each processor core.
        progress: Told of compilation.

    Raises:
        OptionError: If the precision is unknown or the number of threads negative.
        DeviceError: If there is no such device.
        ArtifactError: If a graph cannot be compiled or kept.
    """
    tier = for_weights(choose_precision(precision), checkpoint)
    if threads < 0:
        raise OptionError(f"the number of threads is {threads}: it must be 0 (all cores) or more")
    name = device or "cpu"
    opened = open_device(name)
    whisper = ModuleSpec("whisper", checkpoint.dims, tier.name, name)
    return MaxRuntime(
        checkpoint,
        opened,
        *load_modules([COMMON, whisper], progress),
        device_name=name,
        precision=tier,
        threads=threads or available_cores(),
    )


PARTS = {"encoder": pack_encoder, "cross": pack_cross, "decoder": pack_decoder}


def for_weights(precision: Precision, checkpoint: Checkpoint) -> Precision:
    """How a tier keeps these weights.

    float32 takes half the memory for what float16 holds exactly.
    """
    if precision.linear != "float32":
        return suited(precision)
    halves = FLOAT16_WEIGHTS
    packed = all(is_packed(checkpoint.fingerprint, f"{part}-{halves.name}") for part in PARTS)
    matrices = (tensor for tensor in checkpoint.tensors.values() if tensor.ndim > 1)
    return halves if packed or all(map(fits_float16, matrices)) else precision


def weights(checkpoint: Checkpoint, precision: Precision) -> Arrays:
    """All graphs' weights, packed for a precision."""
    packed: Arrays = {}
    for part, pack in PARTS.items():
        name = f"{part}-{precision.name}"
        packed |= packed_weights(checkpoint.fingerprint, name, functools.partial(pack, checkpoint, precision))
    return packed
