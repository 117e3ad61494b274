"""The operator's commands. Ordinary Python: click, tomllib, long messages."""
