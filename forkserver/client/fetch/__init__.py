"""From there to here: one file, piece by piece, or whole trees. Runs at the user's."""
