"""Every intermediate array of openai-whisper's own model, under the lab's stage names.

This file is run by the Python environment that has openai-whisper and PyTorch, which need not be
the one that has max-whisper: it imports nothing of this package, and is loaded by its path.

Stage names, all ``(positions, channels)`` float32:

==========================================  ====================================================
``mel``                                     the features that go in, as (frames, n_mels)
``conv1.linear``, ``conv2.linear``          the convolutions before their GELU, with bias
``conv1``, ``conv2``                        the same after GELU
``positions``                               the encoder's position table
``encoder.input``                           conv2 plus the position table
``encoder.blocks.{i}``                      the residual stream after block i
``ln_post``                                 the encoder's output
``cross.{i}.key``, ``cross.{i}.value``      cross-attention keys and values of decoder layer i
``decoder.embedding``                       token embedding plus position
``decoder.blocks.{i}``                      the residual stream after block i
``ln``, ``logits``                          the decoder's last norm, and the scores
==========================================  ====================================================

Inside a block: ``attn_ln``, ``query``, ``key``, ``value``, ``attention`` (the heads side by side,
before the output projection), ``out`` (after it, before the residual), ``mlp_ln``, ``mlp_hidden``
(after GELU) and ``mlp``; in the decoder also ``cross_attn_ln``, ``cross_query``,
``cross_attention`` and ``cross_out``. Queries are as projected, bias added, not scaled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def load(path: str | Path, device: str = "cpu") -> Any:
    """Loads a float32 ``whisper.model.Whisper``.

    Args:
        path: An OpenAI ``.pt`` file, or an ``.npz`` with the state dict's arrays and, under
            ``__dims__``, the dimensions as JSON text, under ``__heads__`` the alignment heads.
        device: PyTorch's name of it.
    """
    import torch
    import whisper
    from whisper.model import ModelDimensions, Whisper

    path = Path(path)
    if path.suffix != ".npz":
        return whisper.load_model(str(path), device=device).float()
    with np.load(path, allow_pickle=False) as arrays:
        dims = ModelDimensions(**json.loads(str(arrays["__dims__"])))
        state = {
            name: torch.from_numpy(arrays[name].astype(np.float32))
            for name in arrays.files
            if not name.startswith("__")
        }
        heads = arrays["__heads__"]
    model = Whisper(dims)
    model.load_state_dict(state)
    if len(heads):
        mask = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
        mask[heads[:, 0], heads[:, 1]] = True
        model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    return model.eval().to(device)


def _watch_block(block: Any, prefix: str, keep: Any) -> list[Any]:
    """Hooks on one residual block; ``keep(name)`` makes the hook that stores an output."""
    attention, hooks = block.attn, []

    def watch(module: Any, name: str) -> None:
        hooks.append(module.register_forward_hook(keep(f"{prefix}.{name}")))

    def watch_input(module: Any, name: str) -> None:
        store = keep(f"{prefix}.{name}")
        hooks.append(module.register_forward_pre_hook(lambda m, given: store(m, given, given[0])))

    for name in ("query", "key", "value", "out"):
        watch(getattr(attention, name), name)
    watch_input(attention.out, "attention")
    watch(block.attn_ln, "attn_ln")
    if block.cross_attn is not None:
        watch(block.cross_attn_ln, "cross_attn_ln")
        watch(block.cross_attn.query, "cross_query")
        watch(block.cross_attn.out, "cross_out")
        watch_input(block.cross_attn.out, "cross_attention")
    watch(block.mlp_ln, "mlp_ln")
    watch(block.mlp[1], "mlp_hidden")
    watch(block.mlp[2], "mlp")
    hooks.append(block.register_forward_hook(keep(prefix)))
    return hooks


def capture(model: Any, mel: Any, tokens: Any, *, grafts: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs the model once and returns the arrays of every stage.

    Args:
        model: A ``whisper.model.Whisper`` on the CPU.
        mel: (n_mels, 2 * n_audio_ctx) float32 log-mel window.
        tokens: Token ids that the decoder is fed, start-of-transcript first.
        grafts: Arrays, (positions, channels), put in place of any stage that is a module's output
            (``encoder.blocks.{i}``, ``ln_post``, ``cross.{i}.key``, ...) or of ``encoder.input``.
    """
    import torch
    from torch.nn import functional

    stages: dict[str, Any] = {}
    grafts = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in (grafts or {}).items()}

    def keep(name: str) -> Any:
        def hook(module: Any, given: Any, output: Any) -> Any:
            del module, given
            if name in grafts:
                output = grafts[name][None]
            stages[name] = output[0].detach().float().numpy().copy()
            return output if name in grafts else None

        return hook

    def keep_convolution(name: str) -> Any:
        def hook(module: Any, given: Any, output: Any) -> None:
            del module, given
            stages[f"{name}.linear"] = output[0].T.float().numpy().copy()
            stages[name] = functional.gelu(output)[0].T.float().numpy().copy()

        return hook

    def watch_input(module: Any, name: str) -> Any:
        def hook(module: Any, given: Any) -> Any:
            del module
            if name in grafts:
                given = (grafts[name][None], *given[1:])
            stages[name] = given[0][0].detach().float().numpy().copy()
            return given

        return module.register_forward_pre_hook(hook)

    encoder, decoder, hooks = model.encoder, model.decoder, []
    for name in ("conv1", "conv2"):
        hooks.append(getattr(encoder, name).register_forward_hook(keep_convolution(name)))
    hooks.append(watch_input(encoder.blocks[0], "encoder.input"))
    hooks.append(watch_input(decoder.blocks[0], "decoder.embedding"))
    for side, half in (("encoder", encoder), ("decoder", decoder)):
        for i, block in enumerate(half.blocks):
            hooks += _watch_block(block, f"{side}.blocks.{i}", keep)
    for i, block in enumerate(decoder.blocks):
        for name in ("key", "value"):
            module = getattr(block.cross_attn, name)
            hooks.append(module.register_forward_hook(keep(f"cross.{i}.{name}")))
    hooks.append(encoder.ln_post.register_forward_hook(keep("ln_post")))
    hooks.append(decoder.ln.register_forward_hook(keep("ln")))
    try:
        with torch.no_grad():
            window = torch.from_numpy(np.ascontiguousarray(mel, dtype=np.float32))[None].to(
                encoder.conv1.weight.dtype
            )
            encoded = encoder(window)
            ids = torch.tensor([list(map(int, tokens))], dtype=torch.long)
            stages["logits"] = decoder(ids, encoded)[0].numpy()
    finally:
        for hook in hooks:
            hook.remove()
    stages["mel"] = np.ascontiguousarray(np.asarray(mel, dtype=np.float32).T)
    stages["positions"] = encoder.positional_embedding.float().numpy().copy()
    return stages


def rounding(model: Any, mel: Any, tokens: Any, stages: dict[str, Any]) -> dict[str, Any]:
    """How far float32 rounding alone moves the reference: the same pass in float64.

    Args:
        model: The float32 model; it is used up.
        mel: As for :func:`capture`.
        tokens: As for :func:`capture`.
        stages: What :func:`capture` gave.

    Returns:
        For each stage the greatest difference of any element.
    """
    from torch import nn
    from whisper.model import LayerNorm

    narrow = LayerNorm.forward
    LayerNorm.forward = nn.LayerNorm.forward  # openai-whisper's own falls back to float32
    try:
        exact = capture(model.double(), mel, tokens)
    finally:
        LayerNorm.forward = narrow
    return {name: float(np.abs(exact[name] - array).max()) for name, array in stages.items()}
