"""What is compared: each engine at a setting, and the environment that it runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Engine:
    """One engine at one setting.

    Attributes:
        name: What ``--engines`` calls it.
        title: What tables call it.
        environment: A name of :data:`ENVIRONMENTS`.
        adapter: A name of ``workers/adapters.py``.
        weights: The form of the weights that it reads, see ``weights.py``.
        options: For the adapter.
    """

    name: str
    title: str
    environment: str
    adapter: str
    weights: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return self.adapter == "MaxWhisper"


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        requirements: For pip; none means the interpreter that runs the benchmark.
        from_source: A package to build here, for this processor, where its wheel holds code for any.
    """

    requirements: tuple[str, ...] = ()
    from_source: str | None = None


ENVIRONMENTS: Mapping[str, Environment] = {
    "max-whisper": Environment(),
    "openai": Environment(("openai-whisper==20250625",)),
    "faster-whisper": Environment(("faster-whisper==1.2.1",)),
    "pywhispercpp": Environment(("pywhispercpp==1.5.1", "numpy"), from_source="pywhispercpp"),
    "openvino": Environment(("openvino-genai==2026.4.1.0", "numpy")),
    "export": Environment(
        ("optimum-intel==2.2.0", "optimum[openvino]", "nncf", "openvino-tokenizers==2026.4.1.0", "torch")
    ),
    "report": Environment(("jiwer", "whisper-normalizer", "matplotlib")),
}


def _ours(precision: str, batch: int = 0) -> Engine:
    name, title = f"max-whisper-{precision}", f"max-whisper {precision}"
    if batch:
        name, title = f"{name}-batched", f"{title}, batched"
    options = {"precision": precision, "batch": batch}
    return Engine(name, title, "max-whisper", "MaxWhisper", "ctranslate2", options)


def _faster(kind: str, title: str, batch: int = 0) -> Engine:
    name = f"faster-whisper-{kind}" + ("-batched" if batch else "")
    options = {"compute_type": kind, "batch": batch}
    return Engine(name, title, "faster-whisper", "FasterWhisper", "ctranslate2", options)


def _openvino(name: str, hint: str, weights: str) -> Engine:
    options = {"hint": hint}
    title = f"OpenVINO GenAI {name}"
    return Engine(f"openvino-{name}", title, "openvino", "OpenVino", f"openvino-{weights}", options)


ENGINES: Sequence[Engine] = (
    _ours("float32"),
    _ours("bfloat16"),
    _ours("int8"),
    _ours("int8", batch=8),
    Engine("openai-float32", "openai-whisper float32", "openai", "OpenAI", "openai"),
    _faster("float32", "faster-whisper float32"),
    _faster("int8", "faster-whisper int8"),
    _faster("int8", "faster-whisper int8, batched", batch=8),
    Engine("whisper.cpp-f16", "whisper.cpp f16", "pywhispercpp", "WhisperCpp", "ggml-f16"),
    Engine("whisper.cpp-q8_0", "whisper.cpp q8_0", "pywhispercpp", "WhisperCpp", "ggml-q8_0"),
    _openvino("float32", "f32", "fp16"),
    _openvino("bfloat16", "bf16", "fp16"),
    _openvino("int8", "bf16", "int8"),
)


def choose_engines(names: Sequence[str]) -> list[Engine]:
    """The engines with those names, or whose names begin with them; in the table's order.

    Raises:
        ValueError: A name fits none.
    """
    for name in names:
        if not any(engine.name.startswith(name) for engine in ENGINES):
            raise ValueError(f"there is no engine {name!r}: there are {', '.join(e.name for e in ENGINES)}")
    exact = {engine.name for engine in ENGINES} & set(names)
    begins = tuple(name for name in names if name not in exact)
    return [e for e in ENGINES if not names or e.name in exact or (begins and e.name.startswith(begins))]
