"""One call from a name or a path to a checked checkpoint."""

from __future__ import annotations

import os

from max_whisper.checkpoints import ctranslate2
from max_whisper.checkpoints.canonical import check_finite
from max_whisper.checkpoints.catalogue import find_model, known_file
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.files import MappedFile
from max_whisper.checkpoints.fingerprint import Records, hash_files, state
from max_whisper.checkpoints.resolve import cache_folder, find_package, find_path, how_to_install
from max_whisper.errors import CheckpointError


def load_checkpoint(
    name_or_path: str | os.PathLike[str],
    *,
    download_root: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Opens a checkpoint of any format."""
    name = os.fspath(name_or_path)
    cache = cache_folder(download_root)
    model = find_model(name)
    location = find_path(name) or (model and find_package(model))
    if location is None:
        raise CheckpointError(f"{name} is not here: {how_to_install(name, model, cache)}")
    weights = list(location.files)
    if weights[0].is_dir():
        weights = [weights[0] / "model.bin"]
    records = Records(cache / "hashes")
    key = state(weights)
    fingerprint = records.find(weights)
    known = fingerprint is not None
    if fingerprint is None:
        fingerprint = hash_files(weights)
    if location.sha256 not in (None, fingerprint):
        raise CheckpointError(f"{weights[0]} has sha256 {fingerprint}, not {location.sha256}")
    contents = ctranslate2.read(MappedFile(weights), location.directory)
    if not known:
        check_finite(contents.tensors, str(weights[0]))
        records.remember(weights, key, fingerprint)
    model = model or known_file(fingerprint)
    return Checkpoint(
        dims=contents.dims,
        tensors=contents.tensors,
        fingerprint=fingerprint,
        vocabulary=contents.vocabulary,
        alignment_heads=contents.alignment_heads or (model and model.alignment_heads),
        source=name,
    )
