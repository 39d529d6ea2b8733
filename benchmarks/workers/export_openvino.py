"""``optimum-cli`` under its environment's own interpreter, with as few threads as may be."""

from __future__ import annotations

import sys

import torch
from optimum.commands.optimum_cli import main

torch.set_num_threads(1)
sys.exit(main())
