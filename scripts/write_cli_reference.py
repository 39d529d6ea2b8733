"""Writes the tables of docs/cli.md anew from the command's own flags.

python scripts/write_cli_reference.py
"""

from __future__ import annotations

from pathlib import Path

from max_whisper.command import align

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
MARK = "## Flags\n\n"

if __name__ == "__main__":
    before = PAGE.read_text("utf-8").partition(MARK)[0]
    PAGE.write_text(before + MARK + align.all_flags(), "utf-8")
