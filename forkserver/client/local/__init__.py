"""What the client does with local files, parts of files, and directories. Runs in the client."""
