"""Runs in the supervisor: owns sockets and settings, never accepts, never reads a client's byte."""
