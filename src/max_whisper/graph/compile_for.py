"""Compiles a module for a processor family.

``python -m max_whisper.graph.compile_for FAMILY SPEC FILE``
"""

from __future__ import annotations

import sys

from max.driver import set_virtual_cpu_target

from max_whisper.graph import compile

if __name__ == "__main__":
    set_virtual_cpu_target(sys.argv.pop(1))
    compile.main()
