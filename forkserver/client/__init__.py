"""Runs at the user's: ``fsget``."""
