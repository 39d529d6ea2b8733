"""Compiles one module and exports it: ``python -m max_whisper.graph.compile SPEC FILE``."""

from __future__ import annotations

import os
import sys

from max.driver import CPU, Device
from max.engine import InferenceSession
from max.graph import DeviceRef

from max_whisper.errors import DeviceError
from max_whisper.graph.artifacts import ModuleSpec
from max_whisper.graph.decoder import add_alignment, add_decoder
from max_whisper.graph.encoder import add_attend, add_encoder
from max_whisper.graph.module import GraphModule
from max_whisper.graph.precision import find_precision
from max_whisper.graph.stages import Stages
from max_whisper.graph.steps import add_steps
from max_whisper.graph.team import add_team
from max_whisper.graph.voice import add_voice


def build(spec: ModuleSpec) -> tuple[GraphModule, list[Stages]]:
    """The graphs of ``spec``, and the encoder's and the decoder's stages that follow their proper outputs."""
    graphs = GraphModule(DeviceRef.from_device(open_device(spec.device)))
    stages = [Stages(spec.kind == "probe") for _ in range(2)]
    if spec.kind == "common":
        add_team(graphs)
        add_voice(graphs)
        return graphs, stages
    if spec.kind not in ("whisper", "probe"):
        raise ValueError(f"there are no graphs called {spec.kind!r}")
    precision = find_precision(spec.precision)
    add_encoder(graphs, spec.dims, precision, stages[0])
    add_decoder(graphs, spec.dims, precision, stages[1])
    if spec.kind == "whisper":
        for add in (add_steps, add_attend, add_alignment):
            add(graphs, spec.dims, precision)
    return graphs, stages


def open_device(name: str) -> Device:
    """The device called ``cpu``, ``gpu`` or ``gpu:N``.

    Raises:
        DeviceError: If there is no such device.
    """
    kind = name.partition(":")[0]
    if kind == "cpu":
        return CPU()
    if kind in {"gpu", "cuda"}:
        raise DeviceError("the kernels of this version run on the processor only: use device 'cpu'")
    raise DeviceError(f"unknown device {name!r}: use 'cpu'")


def main() -> None:
    """Compiles what the command line says."""
    spec = ModuleSpec.from_json(sys.argv[1])
    session = InferenceSession(devices=[open_device(spec.device)])
    graphs, _ = build(spec)
    session.compile(graphs.module, custom_extensions=graphs.packages).export_mef(sys.argv[2])
    # The compiler's threads are not always joined when the interpreter ends, which then aborts;
    # the artifact is complete by now.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
