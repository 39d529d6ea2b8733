"""One checkpoint in every engine's form, written from the same arrays.

A CTranslate2 checkpoint is where all begin: faster-whisper and max-whisper read it as it is.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import BenchmarkError, Environments
from max_whisper.audio import mel_filters
from max_whisper.checkpoints import Checkpoint, ModelDimensions, cache_folder, load_checkpoint
from max_whisper.checkpoints.catalogue import find_model
from max_whisper.checkpoints.resolve import find_local, find_path
from max_whisper.tokenizer import Vocabulary

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
        write_huggingface(folder, self.checkpoint, self.source)
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


_HUGGING_FACE = {
    "token_embedding": "embed_tokens",
    "positional_embedding": "embed_positions.weight",
    "encoder.ln_post": "encoder.layer_norm",
    "decoder.ln.": "decoder.layer_norm.",
    ".blocks.": ".layers.",
    ".cross_attn_ln.": ".encoder_attn_layer_norm.",
    ".attn_ln.": ".self_attn_layer_norm.",
    ".mlp_ln.": ".final_layer_norm.",
    ".cross_attn.": ".encoder_attn.",
    ".attn.": ".self_attn.",
    ".query.": ".q_proj.",
    ".key.": ".k_proj.",
    ".value.": ".v_proj.",
    ".out.": ".out_proj.",
    ".mlp.0.": ".fc1.",
    ".mlp.2.": ".fc2.",
}


def huggingface_name(name: str) -> str:
    """transformers' name of one of openai-whisper's tensors."""
    for ours, theirs in _HUGGING_FACE.items():
        name = name.replace(ours, theirs)
    return f"model.{name}"


def write_huggingface(folder: Path, checkpoint: Checkpoint, source: Path) -> None:
    """Writes a folder that transformers reads, from a CTranslate2 folder's own settings."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    ranks = checkpoint.vocabulary
    if ranks is None:
        raise BenchmarkError(f"{checkpoint.source} carries no vocabulary")
    specials = Vocabulary(ranks, checkpoint.dims.num_languages).special_tokens
    tensors = {
        huggingface_name(name): np.ascontiguousarray(value, np.float32)
        for name, value in checkpoint.tensors.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    given = json.loads((source / "config.json").read_text())
    files = {
        "config.json": _config(checkpoint.dims, specials),
        "generation_config.json": _generation(checkpoint.dims, specials, given),
        "preprocessor_config.json": _PREPROCESSOR | {"feature_size": checkpoint.dims.n_mels},
        "tokenizer.json": _tokenizer(json.loads((source / "tokenizer.json").read_text()), specials),
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 1024,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


_PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "chunk_length": 30,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}


def _config(dims: ModelDimensions, specials: Mapping[str, int]) -> dict[str, Any]:
    end = specials["<|endoftext|>"]
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "scale_embedding": False,
        "is_encoder_decoder": True,
        "d_model": dims.n_audio_state,
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
        "vocab_size": dims.n_vocab,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_ffn_dim": 4 * dims.n_text_state,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": specials["<|startoftranscript|>"],
    }


def _generation(dims: ModelDimensions, specials: Mapping[str, int], given: Any) -> dict[str, Any]:
    end = specials["<|endoftext|>"]
    out = {
        "alignment_heads": given["alignment_heads"],
        "suppress_tokens": given["suppress_ids"],
        "begin_suppress_tokens": given["suppress_ids_begin"],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": specials["<|startoftranscript|>"],
        "prev_sot_token_id": specials["<|startofprev|>"],
        "no_timestamps_token_id": specials["<|notimestamps|>"],
        "is_multilingual": dims.is_multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": dims.n_text_ctx,
        "return_timestamps": True,
    }
    if dims.is_multilingual:
        first = specials["<|startoftranscript|>"] + 1
        languages = range(first, first + dims.num_languages)
        out["lang_to_id"] = {name: number for name, number in specials.items() if number in languages}
        out["task_to_id"] = {task: specials[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return out


def _tokenizer(stored: dict[str, Any], specials: Mapping[str, int]) -> dict[str, Any]:
    """The tokenizer with the timestamps, which the packages leave out."""
    known = {token["id"] for token in stored["added_tokens"]}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for name, number in specials.items():
        if number not in known:
            stored["added_tokens"].append({"id": number, "content": name, **plain, "special": True})
    return stored
