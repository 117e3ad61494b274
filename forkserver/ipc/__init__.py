"""What two kinds of processes share. One module has both ends of a channel, or the layout of shared memory."""
