"""The cost model: operations that a frame or a training step takes, by the sizes alone.

From "Causality in Video Diffusers is Separable from Denoising" (Bai et al. 2026, arXiv:2602.10095),
with the key-value cache and adaLN once per frame. A multiplication and an addition are two
operations. Counted are the linear layers and the attention of the blocks. Not counted: embeddings,
heads, refiner, adaLN (12 d^2 a layer and frame, 1 / 2P of its linear layers), the outcome's token,
and whatever is not a matrix product.

Symbols: P tokens a frame, d width, F frames in the window, T sampler steps, N_e encoder and N_d
decoder layers, N = N_e + N_d those of the entangled model, r = 4 the MLP's ratio, K noise draws.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKWARD = 2  # operations of a backward pass over those of its forward pass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the operations depend on."""

    mode: str  # "prefix", "token_concat" or "entangled"
    dim: int  # d
    tokens: int  # P
    history: int  # F
    steps: int = 1  # T
    encoder_layers: int  # N_e
    decoder_layers: int  # N_d
    mlp_ratio: int = 4  # r

    @property
    def layers(self) -> int:
        """N."""
        return self.encoder_layers + self.decoder_layers


def layer(sizes: Sizes, queries: float, keys: float) -> float:
    """Operations of a layer, 24 d^2 P + 4 P S d at r = 4, for P queries and S keys."""
    linear = (8 + 4 * sizes.mlp_ratio) * sizes.dim**2 * queries
    return linear + 4 * queries * keys * sizes.dim


def encode(sizes: Sizes, num_layers: int, frames: float) -> float:
    """Operations of clean layers on one frame that see `frames` frames, their own included."""
    return num_layers * layer(sizes, sizes.tokens, sizes.tokens * frames)


def denoise(sizes: Sizes, frames: float) -> float:
    """Operations of one evaluation at one noise level with `frames` clean frames before it."""
    p = sizes.tokens
    if sizes.mode == "entangled":  # N [24 d^2 P + 4 P^2 (F + 1) d]
        return sizes.layers * layer(sizes, p, p * (frames + 1))
    if sizes.mode == "token_concat":  # N_d [24 d^2 2P + 4 (2P)^2 d]
        return sizes.decoder_layers * layer(sizes, 2 * p, 2 * p)
    return sizes.decoder_layers * layer(sizes, p, 2 * p)  # N_d [24 d^2 P + 8 P^2 d]


def read_context(sizes: Sizes) -> float:
    """Operations of the prefix's keys and values, N_d 4 d^2 P, made once a frame."""
    is_prefix = sizes.mode == "prefix"
    return sizes.decoder_layers * 4 * sizes.dim**2 * sizes.tokens if is_prefix else 0.0


def frame(sizes: Sizes) -> float:
    """Operations of one imagined frame, with a full window.

    entangled     N [24 d^2 P + 4 P^2 F d] + T N [24 d^2 P + 4 P^2 (F + 1) d]
    token_concat  N_e [24 d^2 P + 4 P^2 F d] + T N_d [48 d^2 P + 16 P^2 d]
    prefix        N_e [24 d^2 P + 4 P^2 F d] + N_d 4 d^2 P + T N_d [24 d^2 P + 8 P^2 d]
    """
    clean = sizes.layers if sizes.mode == "entangled" else sizes.encoder_layers
    once = encode(sizes, clean, sizes.history) + read_context(sizes)
    return once + sizes.steps * denoise(sizes, sizes.history)


def sequential_layers(sizes: Sizes) -> int:
    """Layers one after another in a frame: N_e + T N_d, or T N for the entangled model.

    The entangled model's clean pass over the last frame rides with the next frame's first step, as
    in FAR (Gu et al. 2025, arXiv:2503.19325), so that it adds operations but no layers.
    """
    if sizes.mode == "entangled":
        return sizes.steps * sizes.layers
    return sizes.encoder_layers + sizes.steps * sizes.decoder_layers


def training_step(sizes: Sizes, batch: int, num_frames: int, draws: int) -> float:
    """Operations of forward and backward passes on a batch of clips.

    A clip's frames but the first are predicted, each with K noise draws, from the clean frames
    before it: frame t sees min(t, F) of them. The backward pass takes twice the forward pass.

    Args:
        sizes: Of the model; `steps` does not matter.
        batch: Clips.
        num_frames: Frames of a clip.
        draws: K.
    """
    clean = sizes.layers if sizes.mode == "entangled" else sizes.encoder_layers
    forward = 0.0
    for t in range(1, num_frames):
        seen = min(t, sizes.history)
        forward += encode(sizes, clean, seen) + read_context(sizes) + draws * denoise(sizes, seen)
    return (1 + BACKWARD) * batch * forward
