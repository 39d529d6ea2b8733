"""``python -m max_whisper`` is the command."""

from max_whisper.cli import run

run()
