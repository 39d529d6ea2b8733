"""Whisper as MAX graphs: the only package that imports ``max``."""
