"""Training: configuration, loop, checkpoints, and world models on disk."""
