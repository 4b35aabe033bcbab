"""Model sizes by name. A preset is a function, so that its choices can be read in one place."""

from __future__ import annotations

from collections.abc import Callable

from scd_wm.model.config import WorldModelConfig


def state() -> WorldModelConfig:
    """A world of vectors only: trains in a minute on a laptop; about 1 M parameters."""
    return WorldModelConfig(
        open_gates=True,
        dim=96,
        num_heads=3,
        encoder_layers=3,
        decoder_layers=2,
        window=4,
        rope_theta=100.0,
        full_noise_fraction=0.5,
        self_rollouts=1,
        num_steps=1,
    )


def tiny() -> WorldModelConfig:
    """64 px on a laptop; about 4 M parameters.

    Large patches keep tokens few; the convolutional head draws what they cannot carry.
    """
    return WorldModelConfig(
        dim=160,
        num_heads=5,
        patch_size=16,
        refine_channels=32,
        open_gates=True,
        encoder_layers=4,
        decoder_layers=2,
        window=4,
        rope_theta=100.0,
        full_noise_fraction=0.5,
        self_rollouts=1,
        num_steps=1,
    )


def small() -> WorldModelConfig:
    """64 to 128 px on one GPU; about 30 M parameters."""
    return WorldModelConfig(
        dim=384,
        num_heads=6,
        encoder_layers=8,
        decoder_layers=2,
        window=8,
        rope_theta=100.0,
        vector_noise="change",
        full_noise_fraction=0.3,
        self_rollouts=1,
        draws=2,
    )


def base() -> WorldModelConfig:
    """The paper's width for small videos with our decoder and training; about 140 M parameters."""
    return WorldModelConfig(
        dim=768,
        num_heads=12,
        encoder_layers=10,
        decoder_layers=2,
        window=16,
        rope_theta=100.0,
        vector_noise="change",
        full_noise_fraction=0.2,
        self_rollouts=1,
        draws=2,
    )


def paper() -> WorldModelConfig:
    """SCD-M of Bai et al. 2026: 8 + 4 layers of width 1024 on 8x8 latents of 32 channels."""
    return WorldModelConfig(
        dim=1024,
        num_heads=16,
        encoder_layers=8,
        decoder_layers=4,
        patch_size=1,
        action_layers=1,
        window=16,
        context_mode="token_concat",
        prediction="velocity",
        residual=False,
        num_steps=50,
        draws=2,
        full_noise_fraction=0.0,
        interface_noise=0.05,
    )


PRESETS: dict[str, Callable[[], WorldModelConfig]] = {
    preset.__name__: preset for preset in (state, tiny, small, base, paper)
}
