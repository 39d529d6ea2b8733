"""One graph that holds every kernel in every precision, at sizes that each run chooses."""

from __future__ import annotations

import sys
from pathlib import Path

from max.driver import CPU
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import DeviceRef, Graph, TensorType, ops

from max_whisper.graph.encoder import team_type
from max_whisper.graph.layers import KERNELS
from max_whisper.graph.precision import PANEL

MODES = ("float32", "float16", "bfloat16", "int8")
ATTENTIONS = ("float32", "bfloat16", "int8")
HEADS = 2
DEVICE = DeviceRef.CPU()


def floats(*shape):
    return TensorType(DType.float32, shape, DEVICE)


def ints(*shape):
    return TensorType(DType.int32, shape, DEVICE)


def input_types():
    types = [floats("M", "K"), floats("M", "N"), team_type(DEVICE)]
    for mode in MODES:
        types += [ints("P", f"words_{mode}", PANEL), floats(f"rows_{mode}", "columns")]
    return [*types, floats("positions", "qkv"), floats("positions", "state")]


def kernel_graph():
    """Outputs: for each mode a linear layer plain, with GELU, with residual; then attention in each mode."""
    with Graph("kernels", input_types=input_types(), custom_extensions=[KERNELS]) as graph:
        x, residual, team = (value.tensor for value in graph.inputs[:3])
        outputs = []
        for i, mode in enumerate(MODES):
            layer = [value.tensor for value in graph.inputs[3 + 2 * i : 5 + 2 * i]]
            for activation in ("none", "gelu"):
                parameters = {"mode": mode, "activation": activation}
                outputs += op("linear", [x, *layer, team], residual.type, **parameters)
            outputs += op("linear_residual", [x, *layer, residual, team], residual.type, mode=mode)
        qkv, heads = (value.tensor for value in graph.inputs[3 + 2 * len(MODES) :])
        for mode in ATTENTIONS:
            outputs += op("encoder_attention", [qkv, team], heads.type, mode=mode, heads=HEADS)
        graph.output(*outputs)
    return graph


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
