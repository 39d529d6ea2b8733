"""Any checkpoint as a Hugging Face directory, for an engine that reads nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.parity.ctranslate2_writer import vocabulary_folder
from max_whisper.tokenizer import Tokenizer

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


def write_directory(checkpoint: Checkpoint, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the weights in float32, the configurations and the tokenizer into a new folder.

    Args:
        checkpoint: The weights.
        tokenizer: The checkpoint's, for the ids that the configurations list.
        folder: Made here.

    Raises:
        ParityError: If no vocabulary file for this kind of model is on this machine.
    """
    from safetensors.numpy import save_file

    vocabulary = vocabulary_folder(checkpoint.dims.is_multilingual)
    folder.mkdir(parents=True)
    tensors = {
        huggingface_name(name): np.ascontiguousarray(value, np.float32)
        for name, value in checkpoint.tensors.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    specials = tokenizer.special_tokens
    stored = json.loads((vocabulary / "tokenizer.json").read_text(encoding="utf-8"))
    files = {
        "config.json": _config(checkpoint.dims, specials),
        "generation_config.json": _generation(checkpoint, tokenizer),
        "preprocessor_config.json": _PREPROCESSOR | {"feature_size": checkpoint.dims.n_mels},
        "tokenizer.json": _tokenizer(stored, specials),
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
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


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


def _generation(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, Any]:
    dims, specials = checkpoint.dims, tokenizer.special_tokens
    end = tokenizer.eot
    out = {
        "alignment_heads": list(checkpoint.alignment_heads or ()),
        # openai-whisper's rules: signs of sounds, and what no transcript has.
        "suppress_tokens": sorted([*tokenizer.non_speech_tokens, *_controls(tokenizer)]),
        "begin_suppress_tokens": [*tokenizer.encode(" "), end],
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


def _controls(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Special tokens that are never written."""
    tasks = tokenizer.transcribe, tokenizer.translate
    return (*tasks, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm, tokenizer.no_speech)


def _tokenizer(stored: dict[str, Any], specials: Mapping[str, int]) -> dict[str, Any]:
    """The tokenizer with the timestamps, which the packages leave out."""
    known = {token["id"] for token in stored["added_tokens"]}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for name, number in specials.items():
        if number not in known:
            stored["added_tokens"].append({"id": number, "content": name, **plain, "special": True})
    return stored
