"""Graphs that are compiled together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from max.graph import BufferType, DeviceRef, Graph, KernelLibrary, Module, TensorType

KERNELS = Path(__file__).parent / "kernels"


class GraphModule:
    """Graphs over one library of kernels: what they share is compiled once.

    Args:
        device: Where they run.

    Attributes:
        module: What is handed to the compiler.
        packages: And the kernels, as they were built for the graphs.
    """

    def __init__(self, device: DeviceRef) -> None:
        self.device = device
        self.module = Module()
        self.packages: list[Path] = []
        self._kernels = KernelLibrary()
        # This builds a package of the sources, as the constructor does not.
        self._kernels.load_paths([KERNELS])

    def graph(self, name: str, types: Iterable[TensorType | BufferType]) -> Graph:
        """A further graph, to be filled; a compiled module's models go by these names."""
        graph = Graph(name, input_types=types, module=self.module, kernel_library=self._kernels)
        self.packages = graph.kernel_libraries_paths
        return graph
