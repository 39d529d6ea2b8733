"""Every stage of the model on one window, taken from the graphs that transcribe.

The probing graphs are the ordinary ones with their stages as further outputs; only fused values
are taken apart here, so that each has the name and the meaning that the reference gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from max.driver import Buffer
from max.dtype import DType
from max.engine import InferenceSession
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.decoding.runtime import NO_CONSTRAINT
from max_whisper.graph.artifacts import COMMON, ModuleSpec, Progress, load_modules
from max_whisper.graph.compile import build, open_device
from max_whisper.graph.constraints import ConstraintArrays
from max_whisper.graph.decoder import self_cache_shape
from max_whisper.graph.encoder import cross_cache_shape
from max_whisper.graph.precision import choose_precision
from max_whisper.graph.runtime import for_weights, weights
from max_whisper.graph.side_by_side import available_cores
from max_whisper.graph.steps import weight_places
from max_whisper.graph.team import team_of

Floats = NDArray[np.float32]


def probe(
    checkpoint: Checkpoint,
    mel: Floats,
    tokens: Sequence[int],
    *,
    device: str = "cpu",
    precision: str = "float32",
    progress: Progress | None = None,
) -> dict[str, Floats]:
    """Runs one window and returns every stage, (positions, channels) float32 each.

    Args:
        checkpoint: The model.
        mel: (n_mels, 2 * n_audio_ctx) float32.
        tokens: The decoder's input, taken in one pass from position 0.
        device: Where to run.
        precision: The tier that multiplies.
        progress: Told of compilation.

    Returns:
        ``conv1`` and ``conv2`` (after GELU), ``positions`` (conv2 plus position table),
        ``encoder.blocks.I`` (the residual stream after the block) and inside it ``.attn_ln``,
        ``.query``, ``.key``, ``.value``, ``.attention`` (heads side by side), ``.out`` (before the
        residual is added), ``.mlp_ln``, ``.mlp_hidden`` (after GELU), ``.mlp``; ``ln_post``,
        ``cross.I.key``, ``cross.I.value``; ``decoder.embedding``, ``decoder.blocks.I`` with the
        same names and ``.cross_attn_ln``, ``.cross_query``, ``.cross_attention``, ``.cross_out``;
        ``ln`` and ``logits``.
    """
    tier = for_weights(choose_precision(precision), checkpoint)
    spec = ModuleSpec("probe", checkpoint.dims, tier.name, device)
    opened = open_device(device)
    session = InferenceSession(devices=[opened])
    registry = weights(checkpoint, tier)
    common, probes = load_modules([COMMON, spec], progress)
    models = session.init_all(probes, weights_registry=registry)
    names = [stages.names() for stages in build(spec)[1]]
    cross = Buffer(DType.int32, (1, *cross_cache_shape(checkpoint.dims, tier)), opened)
    team = team_of(available_cores(), session.init_all(common)["team"])

    _, *outputs = models["encoder"].execute(
        Buffer.from_numpy(np.ascontiguousarray(mel, np.float32)),
        _ints([0]),
        cross,
        team,
        _ints([0] * (mel.shape[1] // 2)),
    )
    stages = _named(names[0], outputs)
    places = Buffer.from_numpy(weight_places(registry, checkpoint.dims, tier))
    decoded = models["decoder"].execute(
        *_decoder_inputs(checkpoint, tokens), places, team, *_caches(checkpoint, opened, cross)
    )
    stages |= _named(names[1], decoded[4 + checkpoint.dims.n_text_layer :])
    stages["logits"] = decoded[3].to_numpy().copy()
    stages["conv1"] = stages["conv1"][1:-1]  # without the rows of zeros that conv2 reads
    _take_apart(stages, checkpoint)
    return stages


def _decoder_inputs(checkpoint: Checkpoint, tokens: Sequence[int]) -> list[Buffer]:
    count = len(tokens)
    zeros, order = [0] * count, list(range(count))
    sources = np.zeros((1, checkpoint.dims.n_text_ctx), np.int32)
    constraints = ConstraintArrays().fill([NO_CONSTRAINT] * count)
    k, kept = np.zeros(1, np.int32), np.zeros(count, np.int32)
    vocabulary = np.zeros(checkpoint.dims.n_vocab, np.int8)
    arrays: list[NDArray[Any]] = [sources, np.array(order, np.int32), *constraints, k, kept, vocabulary]
    return [_ints(tokens), _ints(zeros), _ints(order), _ints(zeros), *map(Buffer.from_numpy, arrays)]


def _caches(checkpoint: Checkpoint, device: Any, cross: Buffer) -> tuple[Buffer, Buffer]:
    return Buffer(DType.float32, self_cache_shape(checkpoint.dims, 1), device), cross


def _take_apart(stages: dict[str, Floats], checkpoint: Checkpoint) -> None:
    """Fused and residual values -> the reference's own."""
    dims = checkpoint.dims
    before = stages["positions"]
    for i in range(dims.n_audio_layer):
        before = _split_block(stages, f"encoder.blocks.{i}", before, ["attended:out", ":mlp"])
    for i in range(dims.n_text_layer):
        kv = stages.pop(f"cross.{i}.kv")
        stages[f"cross.{i}.key"], stages[f"cross.{i}.value"] = np.split(kv, 2, axis=1)
    before = stages["decoder.embedding"]
    for i in range(dims.n_text_layer):
        steps = ["attended:out", "cross_attended:cross_out", ":mlp"]
        before = _split_block(stages, f"decoder.blocks.{i}", before, steps)


def _split_block(stages: dict[str, Floats], block: str, before: Floats, steps: list[str]) -> Floats:
    query, key, value = np.split(stages.pop(f"{block}.qkv"), 3, axis=1)
    stages |= {f"{block}.query": query, f"{block}.key": key, f"{block}.value": value}
    for step in steps:
        kept, _, added = step.partition(":")
        after = stages.pop(f"{block}.{kept}") if kept else stages[block]
        stages[f"{block}.{added}"] = after - before
        before = after
    return before


def _named(names: Sequence[str], outputs: Sequence[Buffer]) -> dict[str, Floats]:
    return {name: output.to_numpy().copy() for name, output in zip(names, outputs, strict=True)}


def _ints(values: Sequence[int]) -> Buffer:
    return Buffer.from_numpy(np.array(values, np.int32))
