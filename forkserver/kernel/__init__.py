"""Calls to the kernel that Python does not wrap, one facility a module. Only this package uses ``ctypes``."""
