"""What two kinds of processes share: both ends of a channel, or the layout of shared memory, stand in one file."""
