"""Frozen per-frame autoencoders: plug-ins that turn images into small latents and back."""
