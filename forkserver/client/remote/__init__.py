"""The session with a server: connect, ask, and what the answers mean. Runs at the user's."""
