"""Whisper engines beside each other: the same clips, the same weights, the same settings."""
