"""The SCD world model: frame layout, causal encoder, diffusion decoder, loss and sampler."""
