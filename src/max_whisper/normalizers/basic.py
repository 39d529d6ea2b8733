"""The normalizer for every language but English."""

from whisper_normalizer.basic import BasicTextNormalizer

__all__ = ["BasicTextNormalizer"]
