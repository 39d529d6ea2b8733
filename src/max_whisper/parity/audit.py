"""Whether a reference is what it says: each of its stages must follow from the one before.

A comparison is worth what its reference is worth. Noise, an array of another run or a cropped
input all look like a reference until somebody asks whether its own numbers hold together. The
checkpoint's weights say what must follow from what, and a few cheap links prove the chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.parity.measure import Array
from max_whisper.parity.numpy_model import NumpyWhisper

#: In standard deviations. Norms of streams with outliers a hundred times their spread are the
#: widest; what is not a Whisper run is off by one.
TOLERANCE = 5e-3


def audit(
    reference: Mapping[str, Array], checkpoint: Checkpoint, mel: Array, tokens: Sequence[int]
) -> str | None:
    """Says which link of the reference's chain is broken, or None.

    Args:
        reference: The reference's whole arrays.
        checkpoint: The sound checkpoint that it should have run.
        mel: (n_mels, frames), the features that it was given.
        tokens: The tokens that it was given.
    """
    model = NumpyWhisper(checkpoint)
    for name, array in reference.items():
        if not np.isfinite(array).all():
            return f"its {name} has values that are not finite"
    if not np.array_equal(reference["mel"], mel.T):
        return "its features are not the ones it was given"
    if len(reference["logits"]) != len(tokens):
        return f"it has logits for {len(reference['logits'])} tokens and was given {len(tokens)}"
    for name, expected, source in _links(reference, model):
        found = reference[name]
        if found.shape != expected.shape:
            return f"its {name} has shape {found.shape} where {source} gives {expected.shape}"
        off = float(np.abs(found - expected).max() / expected.std())
        if off > TOLERANCE:
            return f"its {name} does not follow from {source}: off by {off:.3g} standard deviations"
    return None


def _links(reference: Mapping[str, Array], model: NumpyWhisper) -> list[tuple[str, Array, str]]:
    """(stage, what it must be, what it follows from), in the order of the computation."""
    dims = model.dims
    links = [
        ("conv1.linear", model.convolution("encoder.conv1", reference["mel"], 1), "its features"),
        ("positions", model.weight("encoder.positional_embedding"), "the checkpoint"),
    ]
    streams = ["encoder.input", *(f"encoder.blocks.{i}" for i in range(dims.n_audio_layer))]
    norms = [(f"{name}.attn_ln", f"{name}.attn_ln") for name in streams[1:]] + [
        ("ln_post", "encoder.ln_post")
    ]
    links += [(name, model.norm(weight, reference[x]), x) for x, (name, weight) in zip(streams, norms)]
    for i in range(dims.n_text_layer):
        key = model.linear(f"decoder.blocks.{i}.cross_attn.key", reference["ln_post"])
        links.append((f"cross.{i}.key", key, "ln_post"))
    last = f"decoder.blocks.{dims.n_text_layer - 1}"
    links.append(("ln", model.norm("decoder.ln", reference[last]), last))
    links.append(("logits", model.logits(reference["ln"]), "ln"))
    return links
