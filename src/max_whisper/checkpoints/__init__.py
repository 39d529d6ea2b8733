"""Any checkpoint format -> dimensions and canonical arrays."""

from max_whisper.checkpoints.catalogue import DEFAULT_MODEL, available_models
from max_whisper.checkpoints.checkpoint import Checkpoint, ModelDimensions
from max_whisper.checkpoints.load import load_checkpoint

__all__ = [
    "DEFAULT_MODEL",
    "Checkpoint",
    "ModelDimensions",
    "available_models",
    "load_checkpoint",
]
