"""Checkpoint arrays -> what the kernels read: fused, transposed, in the words of a precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.errors import DeviceError
from max_whisper.graph.precision import PANEL, PRECISIONS, Precision
from max_whisper.graph.vocabulary import NAME as EMBEDDING
from max_whisper.graph.vocabulary import pack_vocabulary, text_tokens

AT_ONCE = 1 << 17  # weights that are packed at a time: 512 KB of float32

Array = NDArray[np.int32] | NDArray[np.float32]


class Packer:
    """Packs one part of a checkpoint under the names that its graph asks for."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], precision: Precision) -> None:
        self.tensors = tensors
        self.precision = precision
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
        self._pack(name, np.concatenate(weights), np.concatenate(biases))

    def conv(self, name: str) -> None:
        """A convolution (out, in, 3) as a linear layer over three neighbouring frames."""
        weight = self.tensors[f"{name}.weight"]
        rows = weight.transpose(0, 2, 1).reshape(len(weight), -1)
        self._pack(name, rows, self.tensors[f"{name}.bias"])

    def attention(self, name: str) -> None:
        """Self-attention: query, key and value fused, and the output projection."""
        self.linear(f"{name}.qkv", f"{name}.query", f"{name}.key", f"{name}.value")
        self.linear(f"{name}.out")

    def mlp(self, name: str) -> None:
        """The two layers of a block's MLP."""
        self.linear(f"{name}.0")
        self.linear(f"{name}.2")

    def _pack(self, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        # Columns are packed by themselves: some at a time, so that what lies between stays in the cache.
        columns = _columns_at_once(weight)
        parts = [
            self.precision.pack(weight[start : start + columns], bias[start : start + columns])
            for start in range(0, len(weight), columns)
        ]
        self.packed[f"{name}.weight"] = np.concatenate([words for words, _ in parts])
        self.packed[f"{name}.epilogue"] = np.concatenate([epilogue for _, epilogue in parts], axis=1)


def _columns_at_once(weight: NDArray[Any]) -> int:
    return max(1, AT_ONCE // (PANEL * int(weight.shape[1]))) * PANEL


def pack_encoder(checkpoint: Checkpoint, precision: Precision) -> dict[str, Array]:
    """The encoder graph's weights."""
    packer = Packer(checkpoint.tensors, precision)
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


def pack_cross(checkpoint: Checkpoint, precision: Precision) -> dict[str, Array]:
    """The cross-attention keys' and values' weights."""
    packer = Packer(checkpoint.tensors, precision)
    for i in range(checkpoint.dims.n_text_layer):
        block = f"decoder.blocks.{i}.cross_attn"
        packer.linear(f"{block}.kv", f"{block}.key", f"{block}.value")
    return packer.packed


def pack_decoder(checkpoint: Checkpoint, precision: Precision) -> dict[str, Array]:
    """The decoder graph's weights."""
    dims: ModelDimensions = checkpoint.dims
    packer = Packer(checkpoint.tensors, precision)
    norm = (packer.tensors["decoder.ln.weight"], packer.tensors["decoder.ln.bias"])
    embedding = packer.tensors[f"{EMBEDDING}.weight"]
    rows = _columns_at_once(embedding)
    packer.packed |= pack_vocabulary(embedding, norm, text_tokens(dims), precision, rows)
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


def pack_silero(weights: Mapping[str, NDArray[np.float32]]) -> list[Array]:
    """Silero VAD's arrays as the kernel reads them, in the order in which it meets them.

    A frame's spectrum is that of its samples times a window: sums and differences of samples that are as
    far from the middle, and of those as far from a quarter, each by the cosines or sines of every other bin.

    Raises:
        DeviceError: It is not.
    """
    quarter = 64  # samples, a quarter of a spectrum's
    basis = weights["stft.forward_basis_buffer"][:, 0].astype(np.float64)
    bins, samples = np.arange(2 * quarter + 1), np.arange(4 * quarter)
    angles = 2 * np.pi * np.outer(bins, samples) / len(samples)
    window = basis[0]
    cosines, sines = np.cos(angles), np.sin(angles)
    expected = [np.concatenate([window * cosines, sign * window * sines]) for sign in (1, -1)]
    if not (
        any(np.allclose(basis, each, atol=1e-6) for each in expected)
        and np.allclose(window[1:], window[:0:-1], atol=1e-6)
    ):
        raise DeviceError(
            "the voice activity filter's spectrum is not Silero VAD's: pip install 'max-whisper[vad]' again"
        )
    # Of the differences from the middle, the first is multiplied by 0: there the quarter's own stands.
    odd_sines = np.concatenate([sines[1::2, quarter : quarter + 1], sines[1::2, 1:quarter]], axis=1)
    first, second, third, fourth = (
        kernel.transpose(0, 2, 1)
        for kernel in (weights[f"encoder.{i}.reparam_conv.weight"] for i in range(4))
    )
    first = np.concatenate([first[..., ::2], first[..., 1::2]], axis=2)
    nothing = np.zeros(8 * quarter, np.float32)
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (cosines[:-1:2, : quarter + 1], nothing[:quarter]),
        (cosines[1::2, :quarter], nothing[:quarter]),
        (sines[:-1:2, :quarter], nothing[:quarter]),
        (odd_sines, nothing[:quarter]),
        # The third convolution has two frames and the fourth one: what is beside them is nothing.
        *(
            (kernel.reshape(len(kernel), -1), weights[f"encoder.{i}.reparam_conv.bias"])
            for i, kernel in enumerate((first, second, third[:, 1:], fourth[:, 1:2]))
        ),
        (weights["decoder.rnn.weight_ih"], weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]),
        (weights["decoder.rnn.weight_hh"], nothing),
    ]
    packed = [array for layer in layers for array in PRECISIONS["float32"].pack(*layer)]
    output = [weights["decoder.decoder.2.weight"].ravel(), weights["decoder.decoder.2.bias"]]
    return [window[: 2 * quarter + 1].astype(np.float32), *packed, np.concatenate(output)]
