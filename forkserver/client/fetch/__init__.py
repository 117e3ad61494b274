"""Fetch from servers to local files: one file piece by piece, or whole trees. Runs in the client."""
