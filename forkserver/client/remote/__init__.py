"""The session with a server: connect, send requests, check the answers. Runs in the client."""
