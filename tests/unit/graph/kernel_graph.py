"""One graph that holds every kernel in every precision, at sizes that each run chooses."""

from __future__ import annotations

import sys
from pathlib import Path

from max.driver import CPU
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import BufferType, DeviceRef, Graph, TensorType, ops

from max_whisper.graph.encoder import team_type
from max_whisper.graph.module import KERNELS
from max_whisper.graph.precision import PANEL

MODES = ("float32", "float16", "bfloat16", "int8", "bounded")
ATTENTIONS = ("float32", "bfloat16", "int8")
HEADS = 2
LAYERS = 2  # of cross-attention
VOCABULARY, TEXT = 4200, 2976
DEVICE = DeviceRef.CPU()


def floats(*shape):
    return TensorType(DType.float32, shape, DEVICE)


def ints(*shape):
    return TensorType(DType.int32, shape, DEVICE)


def input_types():
    types = [floats("M", "K"), floats("M", "N"), team_type(DEVICE)]
    for mode in MODES:
        types += [ints("P", f"words_{mode}", PANEL), floats(f"rows_{mode}", "columns")]
    types += [floats("positions", "qkv"), floats("positions", "state")]
    types += [BufferType(DType.int32, (1, LAYERS, HEADS, f"cross_{mode}"), DEVICE) for mode in ATTENTIONS]
    types += [floats("positions", "kv"), floats(LAYERS, "tokens", "state")]
    types += [ints("pairs", 2), ints(2), ints("wanted"), ints(1)]
    types += [floats("samples"), addresses("weights"), ints("windows")]
    types += [addresses(f"vocabulary_{mode}") for mode in MODES]
    types += [floats("said", "hidden"), ints("said", 9), ints("said", "forbidden"), ints("said", "repeated")]
    return [*types, floats("said", 2), ints("k"), ints("kept"), ints("said")]


def addresses(name):
    return TensorType(DType.int64, (name,), DEVICE)


def kernel_graph():
    """Outputs: for each mode a linear layer plain, with GELU, with residual; then attention in each mode,
    where tokens begin in each mode of attention, and the probabilities of speech; then for each mode
    candidates, their log-probabilities, what is watched, all logits, and embedded tokens.
    """
    with Graph("kernels", input_types=input_types(), custom_extensions=[KERNELS]) as graph:
        x, residual, team = (value.tensor for value in graph.inputs[:3])
        outputs = []
        for i, mode in enumerate(MODES):
            layer = [value.tensor for value in graph.inputs[3 + 2 * i : 5 + 2 * i]]
            for activation in ("none", "gelu"):
                parameters = {"mode": mode, "activation": activation}
                outputs += op("linear", [x, *layer, team], residual.type, **parameters)
            outputs += op("linear_residual", [x, *layer, residual, team], residual.type, mode=mode)
        rest = graph.inputs[3 + 2 * len(MODES) :]
        qkv, heads = (value.tensor for value in rest[:2])
        for mode in ATTENTIONS:
            outputs += op("encoder_attention", [qkv, team], heads.type, mode=mode, heads=HEADS)
        caches, rest = rest[2 : 2 + len(ATTENTIONS)], rest[2 + len(ATTENTIONS) :]
        kv, *asked, window = (value.tensor for value in rest[:6])
        for mode, cache in zip(ATTENTIONS, caches):
            outputs += followed(mode, cache.buffer, kv, asked, window, team)
        samples, weights, windows = (value.tensor for value in rest[6:9])
        out = TensorType(DType.float32, windows.shape, DEVICE)
        outputs += op("voice", [samples, weights, windows, team], out)
        vocabularies, asked = rest[9 : 9 + len(MODES)], [value.tensor for value in rest[9 + len(MODES) :]]
        for mode, vocabulary in zip(MODES, vocabularies):
            outputs += said(mode, vocabulary.tensor, *asked, team)
        graph.output(*outputs)
    return graph


def followed(mode, cache, kv, asked, window, team):
    """Where tokens begin, by keys that each layer of the cache keeps."""
    for layer in range(LAYERS):
        ops.inplace_custom(
            "whisper_keep_cross",
            DEVICE,
            [cache, kv, window, team],
            parameters={"mode": mode, "layer": layer, "heads": HEADS},
        )
    begins = asked[-1].type
    parameters = {"mode": mode, "head_count": HEADS}
    return ops.inplace_custom(
        "whisper_alignment", DEVICE, [cache, *asked, team], [begins], parameters=parameters
    )


def said(mode, vocabulary, hidden, *asked):
    """What a vocabulary makes of hidden states, and the tokens' vectors."""
    *constraint, k, kept, tokens, team = asked
    rows = hidden.shape[0]
    types = [
        ints(rows, k.shape[0]),
        floats(rows, k.shape[0]),
        floats(rows),
        floats(kept.shape[0], VOCABULARY),
    ]
    inputs = [hidden, vocabulary, *constraint, team]
    chosen = ops.custom("whisper_choose", DEVICE, inputs, types, parameters={"mode": mode})
    return chosen + op("embed", [tokens, tokens, vocabulary], hidden.type, mode=mode)


def op(name, inputs, out, **parameters):
    return ops.custom(f"whisper_{name}", DEVICE, inputs, [out], parameters=parameters)


def main() -> None:
    """``python kernel_graph.py TARGET FILE``: compiles for a processor family, or for this one."""
    target, path = sys.argv[1:]
    if target != "host":
        from max.driver import set_virtual_cpu_target

        set_virtual_cpu_target(target)
    session = InferenceSession(devices=[CPU()])
    session.compile(kernel_graph()).export_mef(Path(path))


if __name__ == "__main__":
    main()
