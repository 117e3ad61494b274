"""Unit tests are run all the time: properties are tried on few examples here, and on many in ``tests/fuzz``."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", max_examples=30)
settings.load_profile("unit")
