"""One checkpoint in every engine's form, written from the same arrays.

A CTranslate2 checkpoint is where all begin: faster-whisper and max-whisper read it as it is.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import BenchmarkError, Environments
from max_whisper.audio import mel_filters
from max_whisper.checkpoints import Checkpoint, cache_folder, load_checkpoint
from max_whisper.checkpoints.catalogue import find_model
from max_whisper.checkpoints.resolve import find_local, find_path
from max_whisper.parity import huggingface_writer
from max_whisper.parity.engine import tokenizer_of

WORKERS = Path(__file__).parent / "workers"

Array = NDArray[Any]


class Weights:
    """A model's files.

    Args:
        name: A model's name, or ``NAME=FOLDER`` for a CTranslate2 folder.
        folder: Where files are written; those that are there are kept.
        environments: For what only another package can write.
    """

    def __init__(self, name: str, folder: Path, environments: Environments) -> None:
        self.name, _, path = name.partition("=")
        self.folder = folder / self.name
        self.environments = environments
        self.source = self._ctranslate2(path)
        self._checkpoint: Checkpoint | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = load_checkpoint(self.source)
        return self._checkpoint

    def path(self, form: str) -> Path:
        """The weights in a form: ctranslate2, openai, ggml-f16, ggml-q8_0, openvino-fp16, openvino-int8.

        Raises:
            BenchmarkError: They could not be written.
        """
        if form == "ctranslate2":
            return self.source
        kind, _, precision = form.partition("-")
        target = self.folder / (f"{self.name}.pt" if kind == "openai" else form)
        if not target.exists():
            print(f"writing {target}", flush=True)
            unfinished = target.with_name(f"unfinished-{target.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            if kind == "ggml":
                write_ggml(unfinished, self.checkpoint, precision)
            elif kind == "openai":
                self._write_openai(unfinished)
            else:
                self._write_openvino(unfinished, precision)
            unfinished.rename(target)
        return target

    def _ctranslate2(self, path: str) -> Path:
        model = find_model(self.name)
        location = find_path(path) if path else find_local(self.name, model, cache_folder())
        if location is None:
            raise BenchmarkError(
                f"{path or self.name} is not on this machine: max-whisper prepare {self.name}"
            )
        if location.files[0].is_dir():
            if not (location.files[0] / "model.bin").is_file():
                raise BenchmarkError(f"{location.files[0]} is no CTranslate2 folder: it has no model.bin")
            return location.files[0]
        if location.kind != "package":
            raise BenchmarkError(f"{location.files[0]} is not in CTranslate2's format; give NAME=FOLDER")
        joined = self.folder / "ctranslate2"
        if not (joined / "model.bin").is_file():
            joined.mkdir(parents=True, exist_ok=True)
            for file in location.directory.iterdir():
                if file.suffix in (".json", ".txt"):
                    shutil.copy(file, joined)
            with (joined / "unfinished").open("wb") as out:
                for part in location.files:
                    out.write(part.read_bytes())
            (joined / "unfinished").rename(joined / "model.bin")
        return joined

    def _write_openai(self, target: Path) -> None:
        arrays = self.folder / "arrays.npz"
        np.savez(arrays, __dims__=json.dumps(asdict(self.checkpoint.dims)), **self.checkpoint.tensors)
        python = self.environments.python("openai")
        _call([python, WORKERS / "save_openai.py", arrays, target])
        arrays.unlink()

    def _write_openvino(self, target: Path, precision: str) -> None:
        folder = self.folder / "huggingface"
        if not folder.exists():
            tokenizer = tokenizer_of(self.checkpoint, None, "transcribe")
            huggingface_writer.write_directory(self.checkpoint, tokenizer, folder)
        task = "automatic-speech-recognition-with-past"
        command = [self.environments.python("export"), WORKERS / "export_openvino.py"]
        options = ["--model", folder, "--task", task, "--weight-format", precision, target]
        _call([*command, "export", "openvino", *options])


def _call(command: list[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{Path(command[1]).name} failed: {done.stderr.strip()[-2000:]}")


def write_ggml(path: Path, checkpoint: Checkpoint, kind: str) -> None:
    """Writes whisper.cpp's file; ``kind`` (f16, q8_0) holds for linear layers and the embedding."""
    dims = checkpoint.dims
    header = (
        *(dims.n_vocab, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer),
        *(dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer, dims.n_mels),
    )
    filters = np.ascontiguousarray(mel_filters(dims.n_mels))
    ranks = checkpoint.vocabulary
    if ranks is None:
        raise BenchmarkError(f"{checkpoint.source} carries no vocabulary")
    with path.open("wb") as out:
        out.write(struct.pack("<12i", 0x67676D6C, *header, {"f16": 1, "q8_0": 2007}[kind]))
        out.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        out.write(struct.pack("<i", len(ranks)))
        for token in sorted(ranks, key=ranks.__getitem__):
            out.write(struct.pack("<i", len(token)) + token)
        for name, tensor in checkpoint.tensors.items():
            out.write(_ggml_tensor(name, np.asarray(tensor), kind))


def _ggml_tensor(name: str, value: Array, kind: str) -> bytes:
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        value = value.reshape(-1, 1)
    if len(value.shape) < 2 or value.shape[1] == 1 or name.endswith("positional_embedding"):
        code, data = 0, value.astype("<f4").tobytes()
    elif value.ndim == 3 or kind == "f16":
        code, data = 1, value.astype("<f2").tobytes()
    else:
        code, data = 8, q8_0(value)
    raw, axes = name.encode(), value.shape[::-1]
    return struct.pack(f"<{3 + len(axes)}i", len(axes), len(raw), code, *axes) + raw + data


def q8_0(value: Array) -> bytes:
    """ggml's blocks of 32 int8 numbers behind a float16 scale, the largest of a block at 127."""
    blocks = value.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    numbers = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    packed = np.empty(len(blocks), np.dtype([("scale", "<f2"), ("numbers", "i1", 32)]))
    packed["scale"], packed["numbers"] = scale[:, 0], np.rint(numbers)
    return packed.tobytes()
