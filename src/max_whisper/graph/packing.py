"""Checkpoint arrays -> what the kernels read: fused, transposed, in panels of 32 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.graph.layers import PANEL, panels

Array = NDArray[np.float32]


def pack_panels(weight: NDArray[np.generic]) -> Array:
    """A linear weight (out, in) -> (ceil(out / 32), in, 32) float32, padded with zeros."""
    out, depth = weight.shape
    padded = np.zeros((panels(out) * PANEL, depth), np.float32)
    padded[:out] = weight
    return np.ascontiguousarray(padded.reshape(-1, PANEL, depth).transpose(0, 2, 1))


def pack_bias(bias: NDArray[np.generic]) -> Array:
    """A bias (out,) padded with zeros to whole panels, float32."""
    padded = np.zeros(panels(len(bias)) * PANEL, np.float32)
    padded[: len(bias)] = bias
    return padded


class Packer:
    """Packs one part of a checkpoint under the names that its graph asks for."""

    def __init__(self, tensors: Mapping[str, NDArray[np.generic[Any]]]) -> None:
        self.tensors = tensors
        self.packed: dict[str, Array] = {}

    def plain(self, name: str) -> None:
        """A tensor as it is, float32."""
        self.packed[name] = np.ascontiguousarray(self.tensors[name], np.float32)

    def norm(self, name: str) -> None:
        """A layer norm."""
        self.plain(f"{name}.weight")
        self.plain(f"{name}.bias")

    def linear(self, name: str, *parts: str) -> None:
        """Linear layers over one input as one; a part without bias has a bias of zeros."""
        weights = [self.tensors[f"{part}.weight"] for part in parts or (name,)]
        biases = [
            self.tensors.get(f"{part}.bias", np.zeros(len(weight), np.float32))
            for part, weight in zip(parts or (name,), weights)
        ]
        self.packed[f"{name}.weight"] = pack_panels(np.concatenate(weights))
        self.packed[f"{name}.bias"] = pack_bias(np.concatenate(biases))

    def conv(self, name: str) -> None:
        """A convolution (out, in, 3) as a linear layer over three neighbouring frames."""
        weight = self.tensors[f"{name}.weight"]
        self.packed[f"{name}.weight"] = pack_panels(weight.transpose(0, 2, 1).reshape(len(weight), -1))
        self.packed[f"{name}.bias"] = pack_bias(self.tensors[f"{name}.bias"])

    def attention(self, name: str) -> None:
        """Self-attention: query, key and value fused, and the output projection."""
        self.linear(f"{name}.qkv", f"{name}.query", f"{name}.key", f"{name}.value")
        self.linear(f"{name}.out")

    def mlp(self, name: str) -> None:
        """The two layers of a block's MLP."""
        self.linear(f"{name}.0")
        self.linear(f"{name}.2")


def pack_encoder(checkpoint: Checkpoint) -> dict[str, Array]:
    """The encoder graph's weights."""
    packer = Packer(checkpoint.tensors)
    packer.conv("encoder.conv1")
    packer.conv("encoder.conv2")
    packer.plain("encoder.positional_embedding")
    for i in range(checkpoint.dims.n_audio_layer):
        block = f"encoder.blocks.{i}"
        packer.norm(f"{block}.attn_ln")
        packer.attention(f"{block}.attn")
        packer.norm(f"{block}.mlp_ln")
        packer.mlp(f"{block}.mlp")
    packer.norm("encoder.ln_post")
    return packer.packed


def pack_cross(checkpoint: Checkpoint) -> dict[str, Array]:
    """The cross-attention keys' and values' weights."""
    packer = Packer(checkpoint.tensors)
    for i in range(checkpoint.dims.n_text_layer):
        block = f"decoder.blocks.{i}.cross_attn"
        packer.linear(f"{block}.kv", f"{block}.key", f"{block}.value")
    return packer.packed


def pack_decoder(checkpoint: Checkpoint) -> dict[str, Array]:
    """The decoder graph's weights."""
    dims: ModelDimensions = checkpoint.dims
    packer = Packer(checkpoint.tensors)
    packer.linear("decoder.token_embedding")
    packer.plain("decoder.positional_embedding")
    for i in range(dims.n_text_layer):
        block = f"decoder.blocks.{i}"
        packer.norm(f"{block}.attn_ln")
        packer.attention(f"{block}.attn")
        packer.norm(f"{block}.cross_attn_ln")
        packer.linear(f"{block}.cross_attn.query")
        packer.linear(f"{block}.cross_attn.out")
        packer.norm(f"{block}.mlp_ln")
        packer.mlp(f"{block}.mlp")
    packer.norm("decoder.ln")
    return packer.packed
