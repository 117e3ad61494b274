"""The wall: one facility of the kernel a file, and the only ``ctypes``. Knows nobody above it."""
