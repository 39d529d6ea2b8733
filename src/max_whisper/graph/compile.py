"""Compiles one graph and exports it: ``python -m max_whisper.graph.compile SPEC FILE``."""

from __future__ import annotations

import os
import sys

from max.driver import CPU, Device
from max.engine import InferenceSession
from max.graph import DeviceRef, Graph

from max_whisper.errors import DeviceError
from max_whisper.graph.artifacts import GraphSpec
from max_whisper.graph.decoder import alignment_graph, decoder_graph
from max_whisper.graph.encoder import attend_graph, encoder_graph
from max_whisper.graph.precision import find_precision
from max_whisper.graph.steps import steps_graph
from max_whisper.graph.team import team_graph
from max_whisper.graph.voice import voice_graph


def build(spec: GraphSpec) -> tuple[Graph, list[str]]:
    """The graph of ``spec`` and the names of the stages that follow its proper outputs."""
    device = DeviceRef.from_device(open_device(spec.device))
    alone = {"team": team_graph, "voice": voice_graph}
    if spec.kind in alone:
        return alone[spec.kind](device), []
    precision = find_precision(spec.precision)
    if spec.kind == "encoder":
        graph, stages = encoder_graph(spec.dims, device, precision, probe=spec.probe)
        return graph, stages.names()
    if spec.kind == "decoder":
        graph, stages = decoder_graph(spec.dims, device, precision, probe=spec.probe)
        return graph, stages.names()
    plain = {"attend": attend_graph, "steps": steps_graph, "alignment": alignment_graph}
    return plain[spec.kind](spec.dims, device, precision), []


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
    spec = GraphSpec.from_json(sys.argv[1])
    session = InferenceSession(devices=[open_device(spec.device)])
    graph, _ = build(spec)
    session.compile(graph).export_mef(sys.argv[2])
    # The compiler's threads are not always joined when the interpreter ends, which then aborts;
    # the artifact is complete by now.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
