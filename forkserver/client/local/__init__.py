"""Write, keep, compare and delete local files, parts of files, and directories. Runs in the client."""
