"""Which layers of a causal video diffuser read the past and which denoise; how to split it."""
