"""Whisper in plain numpy: a second opinion that needs nothing installed.

Written for reading and for planting faults, not for speed: every intermediate array passes
through a ``see`` function under the stage names of :mod:`max_whisper.parity.references.openai_stages`, which
may keep it or put another in its place. It also serves as a
:class:`~max_whisper.decoding.runtime.Runtime` (see :mod:`max_whisper.parity.numpy_runtime`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import Checkpoint

Array = NDArray[np.float32]
See = Callable[[str, Array], Array]
Attend = Callable[[int, Array, Array, Array], Array]


def unseen(name: str, array: Array) -> Array:
    """Lets every stage pass."""
    return array


@dataclass(frozen=True)
class Variation:
    """Ways in which a port goes wrong inside the graph; the defaults are Whisper.

    Attributes:
        tanh_gelu: GELU by its tanh approximation.
        causal: Whether a token is kept from seeing the ones after it.
        ln_post: Whether the encoder ends in its norm.
    """

    tanh_gelu: bool = False
    causal: bool = True
    ln_post: bool = True


_ERF_TOP = (
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BOTTOM = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf(x: Array) -> Array:
    """The error function to float32's precision: the rational approximation that Eigen uses."""
    x = np.clip(x, np.float32(-4), np.float32(4))
    square = x * x
    top = np.full_like(x, -2.72614225801306e-10)
    for coefficient in _ERF_TOP:
        top = top * square + np.float32(coefficient)
    bottom = np.zeros_like(x)
    for coefficient in _ERF_BOTTOM:
        bottom = bottom * square + np.float32(coefficient)
    return np.asarray(x * top / bottom)


def gelu(x: Array, *, tanh: bool = False) -> Array:
    """GELU, exact (as Whisper's) or by the tanh approximation."""
    if tanh:
        inner = np.float32(np.sqrt(2.0 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(np.float32(0.5) * x * (1.0 + np.tanh(inner)))
    return np.asarray(np.float32(0.5) * x * (1.0 + erf(x * np.float32(np.sqrt(0.5)))))


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def attention(query: Array, key: Array, value: Array, heads: int, allowed: NDArray[np.bool_] | None) -> Array:
    """Multi-head attention of (n, d) on (m, d); ``allowed`` (n, m) marks what may be seen."""
    n, d = query.shape
    q = query.reshape(n, heads, -1).transpose(1, 0, 2)
    k = key.reshape(len(key), heads, -1).transpose(1, 2, 0)
    v = value.reshape(len(value), heads, -1).transpose(1, 0, 2)
    scores = (q @ k) * np.float32((d // heads) ** -0.5)
    if allowed is not None:
        scores = np.where(allowed, scores, np.float32(-np.inf))
    return np.ascontiguousarray((softmax(scores) @ v).transpose(1, 0, 2).reshape(n, d))


class NumpyWhisper:
    """One checkpoint's forward passes in numpy.

    Args:
        checkpoint: The weights; widened to float32 here.
        variation: What to do otherwise than Whisper.
    """

    def __init__(self, checkpoint: Checkpoint, variation: Variation | None = None) -> None:
        self.dims = checkpoint.dims
        self.variation = variation or Variation()
        self._weights = {
            name: np.ascontiguousarray(np.asarray(array, dtype=np.float32))
            for name, array in checkpoint.tensors.items()
        }

    def weight(self, name: str) -> Array:
        """A tensor in float32."""
        return self._weights[name]

    def linear(self, name: str, x: Array) -> Array:
        """``x @ W.T + b``; the key projections have no bias."""
        y: Array = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def norm(self, name: str, x: Array) -> Array:
        """Layer norm over the channels."""
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1.0 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        normed: Array = centred * scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return normed

    def _gelu(self, x: Array) -> Array:
        return gelu(x, tanh=self.variation.tanh_gelu)

    def convolution(self, name: str, x: Array, stride: int) -> Array:
        """(frames, in) to (frames / stride, out), three wide, one frame of zeros at each end."""
        weight, frames = self._weights[f"{name}.weight"], len(x)
        padded = np.pad(x, ((1, 1), (0, 0)))
        taps = [padded[tap : tap + frames : stride] @ weight[:, :, tap].T for tap in range(3)]
        return np.asarray(taps[0] + taps[1] + taps[2] + self._weights[f"{name}.bias"])

    def _mlp(self, prefix: str, x: Array, see: See) -> Array:
        normed = see(f"{prefix}.mlp_ln", self.norm(f"{prefix}.mlp_ln", x))
        hidden = see(f"{prefix}.mlp_hidden", self._gelu(self.linear(f"{prefix}.mlp.0", normed)))
        return see(f"{prefix}.mlp", self.linear(f"{prefix}.mlp.2", hidden))

    def _project(self, prefix: str, normed: Array, see: See) -> tuple[Array, Array, Array]:
        query, key, value = (
            see(f"{prefix}.{name}", self.linear(f"{prefix}.attn.{name}", normed))
            for name in ("query", "key", "value")
        )
        return query, key, value

    def encode(self, mel: Array, see: See = unseen) -> Array:
        """The encoder: (n_mels, 2 * n_audio_ctx) log-mel to (n_audio_ctx, n_audio_state)."""
        x = see("mel", np.ascontiguousarray(mel.T))
        for name, stride in (("conv1", 1), ("conv2", 2)):
            x = see(f"{name}.linear", self.convolution(f"encoder.{name}", x, stride))
            x = see(name, self._gelu(x))
        x = see("encoder.input", x + see("positions", self._weights["encoder.positional_embedding"]))
        for i in range(self.dims.n_audio_layer):
            prefix = f"encoder.blocks.{i}"
            normed = see(f"{prefix}.attn_ln", self.norm(f"{prefix}.attn_ln", x))
            query, key, value = self._project(prefix, normed, see)
            mixed = see(
                f"{prefix}.attention", attention(query, key, value, self.dims.n_audio_head, allowed=None)
            )
            x = x + see(f"{prefix}.out", self.linear(f"{prefix}.attn.out", mixed))
            x = see(prefix, x + self._mlp(prefix, x, see))
        return see("ln_post", self.norm("encoder.ln_post", x) if self.variation.ln_post else x)

    def cross(self, features: Array, see: See = unseen) -> list[tuple[Array, Array]]:
        """Every decoder layer's cross-attention keys and values of one encoded window."""
        pairs = []
        for i in range(self.dims.n_text_layer):
            key, value = (
                see(f"cross.{i}.{name}", self.linear(f"decoder.blocks.{i}.cross_attn.{name}", features))
                for name in ("key", "value")
            )
            pairs.append((key, value))
        return pairs

    def decode(
        self,
        tokens: NDArray[np.int32],
        positions: NDArray[np.int32],
        attend: Attend,
        cross_attend: Callable[[int, Array], Array],
        see: See = unseen,
    ) -> Array:
        """The decoder's last hidden states, normed: (N, n_text_state).

        Args:
            tokens: (N,) ids.
            positions: (N,) positions.
            attend: ``(layer, query, key, value)`` to the self-attention's result.
            cross_attend: ``(layer, query)`` to the cross-attention's result.
            see: Called with every stage.
        """
        embedding, table = (
            self._weights["decoder.token_embedding.weight"],
            self._weights["decoder.positional_embedding"],
        )
        x = see("decoder.embedding", embedding[tokens] + table[positions])
        for i in range(self.dims.n_text_layer):
            prefix = f"decoder.blocks.{i}"
            normed = see(f"{prefix}.attn_ln", self.norm(f"{prefix}.attn_ln", x))
            query, key, value = self._project(prefix, normed, see)
            mixed = see(f"{prefix}.attention", attend(i, query, key, value))
            x = x + see(f"{prefix}.out", self.linear(f"{prefix}.attn.out", mixed))
            normed = see(f"{prefix}.cross_attn_ln", self.norm(f"{prefix}.cross_attn_ln", x))
            query = see(f"{prefix}.cross_query", self.linear(f"{prefix}.cross_attn.query", normed))
            mixed = see(f"{prefix}.cross_attention", cross_attend(i, query))
            x = x + see(f"{prefix}.cross_out", self.linear(f"{prefix}.cross_attn.out", mixed))
            x = see(prefix, x + self._mlp(prefix, x, see))
        return see("ln", self.norm("decoder.ln", x))

    def logits(self, hidden: Array) -> Array:
        """(N, n_vocab) scores of normed hidden states."""
        return np.asarray(hidden @ self._weights["decoder.token_embedding.weight"].T)

    def stages(self, mel: Array, tokens: Sequence[int]) -> dict[str, Array]:
        """Every stage of one pass over one window and a given sequence of tokens.

        Args:
            mel: (n_mels, 2 * n_audio_ctx) log-mel.
            tokens: Ids, start-of-transcript first.
        """
        return self.follow(mel, tokens, {})

    def follow(self, mel: Array, tokens: Sequence[int], given: Mapping[str, Array]) -> dict[str, Array]:
        """What each stage is if it is computed from given stages before it.

        Args:
            mel: (n_mels, 2 * n_audio_ctx) log-mel.
            tokens: Ids, start-of-transcript first.
            given: Stages to go on from; where one is missing, what was computed is.
        """
        kept: dict[str, Array] = {}

        def see(name: str, array: Array) -> Array:
            kept[name] = array
            return given.get(name, array)

        pairs = self.cross(self.encode(mel, see), see)
        count, heads = len(tokens), self.dims.n_text_head
        mask = np.tril(np.ones((count, count), dtype=np.bool_)) if self.variation.causal else None
        hidden = self.decode(
            np.asarray(tokens, dtype=np.int32),
            np.arange(count, dtype=np.int32),
            lambda layer, query, key, value: attention(query, key, value, heads, mask),
            lambda layer, query: attention(query, *pairs[layer], heads, None),
            see,
        )
        kept["logits"] = self.logits(hidden)
        return kept
