"""Unit tests are run all the time: properties are tried on few examples here, and on many in ``tests/fuzz``."""

from __future__ import annotations

import os

from hypothesis import settings

if "HYPOTHESIS_PROFILE" not in os.environ:
    settings.register_profile("unit", settings.get_profile("same"), max_examples=30)
    settings.load_profile("unit")
