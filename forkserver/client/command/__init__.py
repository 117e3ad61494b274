"""The command line: what the user types, and what the user gets to read. Runs at the user's."""
