"""``forkserver`` under coverage: the same command, with masters started through ``measured_master.py``."""

from __future__ import annotations

import sys
from pathlib import Path

from forkserver.front import cli
from forkserver.supervisor import generation

generation.COMMAND = (sys.executable, str(Path(__file__).with_name("measured_master.py")))
cli.main()
