"""What is here, and what becomes of it: files, parts of files, directories. Runs at the user's."""
