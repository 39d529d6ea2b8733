"""Any checkpoint format -> dimensions and canonical arrays."""

from max_whisper.checkpoints.cache import cache_folder
from max_whisper.checkpoints.canonical import expected_shapes
from max_whisper.checkpoints.catalogue import DEFAULT_MODEL, available_models
from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.checkpoints.load import find_vocabulary, load_checkpoint
from max_whisper.checkpoints.progress import Progress
from max_whisper.checkpoints.resolve import ListedModel, list_models

__all__ = [
    "DEFAULT_MODEL",
    "Checkpoint",
    "ListedModel",
    "ModelDimensions",
    "Progress",
    "available_models",
    "cache_folder",
    "expected_shapes",
    "find_vocabulary",
    "list_models",
    "load_checkpoint",
]
