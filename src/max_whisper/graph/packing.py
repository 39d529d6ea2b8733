"""Checkpoint arrays -> what the kernels read: fused, transposed, in the words of a precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.errors import DeviceError
from max_whisper.graph.precision import PANEL, PRECISIONS, Precision
from max_whisper.graph.side_by_side import side_by_side
from max_whisper.graph.vocabulary import NAME as EMBEDDING
from max_whisper.graph.vocabulary import pack_vocabulary, text_tokens

AT_ONCE = 1 << 18  # weights that are packed at a time: 1 MB of float32

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
        parts = side_by_side(
            lambda start: self.precision.pack(weight[start : start + columns], bias[start : start + columns]),
            range(0, len(weight), columns),
        )
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


#: Winograd's F(4, 3): what three neighbouring weights of a convolution are at the points 0, 1, -1, 2, -2 and
#: infinity, divided by what the kernel multiplies the frames' values by there.
_POINTS = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_FRAME = 256  # samples of a spectrum


def pack_silero(weights: Mapping[str, NDArray[np.float32]]) -> list[Array]:
    """Silero VAD's arrays as the kernel reads them, in the order in which it meets them.

    Raises:
        DeviceError: It is not.
    """
    convolutions = [
        (weights[f"encoder.{i}.reparam_conv.weight"], weights[f"encoder.{i}.reparam_conv.bias"])
        for i in range(4)
    ]
    (first, first_bias), second, third, fourth = (
        (kernel.transpose(0, 2, 1), bias) for kernel, bias in convolutions
    )
    points = np.einsum("pk,okc->poc", _POINTS, first).reshape(-1, first.shape[2])
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = [
        second,
        # The third convolution has two frames and the fourth one: what is beside them is nothing.
        (third[0][:, 1:], third[1]),
        (fourth[0][:, 1:2], fourth[1]),
        (weights["decoder.rnn.weight_ih"], weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]),
        (weights["decoder.rnn.weight_hh"], np.zeros(4 * 128, np.float32)),
    ]
    pack = PRECISIONS["float32"].pack
    packed = [array for weight, bias in layers for array in pack(weight.reshape(len(weight), -1), bias)]
    output = [weights["decoder.decoder.2.weight"].ravel(), weights["decoder.decoder.2.bias"]]
    return [
        *_spectrum(weights["stft.forward_basis_buffer"][:, 0].astype(np.float64)),
        *pack(points, np.zeros(len(points), np.float32)),
        np.ascontiguousarray(first_bias),
        *packed,
        np.concatenate(output),
    ]


def _spectrum(basis: NDArray[np.float64]) -> list[Array]:
    """What ``kernels/spectrum.mojo`` multiplies by, in place of a basis of windowed cosines and sines."""
    angles = 2 * np.pi * np.outer(np.arange(_FRAME // 2 + 1), np.arange(_FRAME)) / _FRAME
    window = basis[0]
    expected = [np.concatenate([window * np.cos(angles), sign * window * np.sin(angles)]) for sign in (1, -1)]
    if not any(np.allclose(basis, each, atol=1e-6) for each in expected):
        raise DeviceError(
            "the voice activity filter's spectrum is not Silero VAD's: pip install 'max-whisper[vad]' again"
        )
    stages = [np.arange(length // 4) / length for length in (_FRAME // 2, _FRAME // 8, _FRAME // 32)]
    turns = np.outer(np.concatenate(stages), [1, 2, 3])
    bins = np.arange(_FRAME // 4) / _FRAME
    return [(window / 2).astype(np.float32), _cosines_and_sines(turns), _cosines_and_sines(bins)]


def _cosines_and_sines(turns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Of whole turns, one after the other."""
    angles = 2 * np.pi * turns
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
