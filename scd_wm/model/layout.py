"""How one frame becomes one flat vector and back: patches, vectors, normalisation, validity.

Inside the model a frame is *packed*: all its normalised values in one vector of M numbers, the
patches of each camera first (row by row), then each vector. Noise, sampler, residual and losses
work on packed frames and need not know what a frame holds.

Axes: B batch, T frames, N tokens of a frame, M values of a packed frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.spec import Spec


@dataclass(frozen=True)
class Segment:
    """Where one camera or vector lies in the tokens and in the packed values of a frame."""

    name: str
    is_image: bool
    num_tokens: int
    token_len: int  # values in one token
    first_token: int
    first_value: int

    @property
    def tokens(self) -> slice:
        """Its tokens among the N of a frame."""
        return slice(self.first_token, self.first_token + self.num_tokens)

    @property
    def values(self) -> slice:
        """Its values among the M of a packed frame."""
        return slice(self.first_value, self.first_value + self.num_tokens * self.token_len)


def segments_of(spec: Spec, patch_size: int) -> tuple[Segment, ...]:
    """Return the segments of a frame, cameras first.

    Raises:
        ValueError: If a camera's sides are not multiples of `patch_size`.
    """
    sizes: list[tuple[str, bool, int, int]] = []
    for name, camera in spec.cameras.items():
        if camera.height % patch_size or camera.width % patch_size:
            raise ValueError(
                f"camera {name!r} is {camera.height}x{camera.width}, which patch_size={patch_size} "
                "does not divide; choose another image size or patch_size"
            )
        num_patches = (camera.height // patch_size) * (camera.width // patch_size)
        sizes.append((name, True, num_patches, patch_size**2 * camera.channels))
    sizes += [(name, False, 1, vector.dim) for name, vector in spec.vectors.items()]
    segments, token, value = [], 0, 0
    for name, is_image, num_tokens, token_len in sizes:
        segments.append(Segment(name, is_image, num_tokens, token_len, token, value))
        token, value = token + num_tokens, value + num_tokens * token_len
    return tuple(segments)


class FrameLayout(nn.Module):
    """Packs frames of a spec into vectors and unpacks them; holds the normalisation as buffers.

    Args:
        spec: What a frame holds.
        patch_size: Side of a square patch, pixels or latent cells.

    Raises:
        ValueError: If a camera's sides are not multiples of `patch_size`.
    """

    token_of_value: Tensor  # (M,) which token each packed value belongs to
    is_image: Tensor  # (M,) bool
    delta_std: Tensor  # (M,) RMS change between frames, of each normalised value

    def __init__(self, spec: Spec, patch_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.patch_size = patch_size
        self.segments = segments_of(spec, patch_size)
        self.num_tokens = sum(s.num_tokens for s in self.segments)
        self.num_values = sum(s.num_tokens * s.token_len for s in self.segments)
        owner = [
            torch.arange(s.first_token, s.first_token + s.num_tokens).repeat_interleave(s.token_len)
            for s in self.segments
        ]
        self._constant("token_of_value", torch.cat(owner))
        kinds = [torch.full((s.num_tokens * s.token_len,), s.is_image) for s in self.segments]
        self._constant("is_image", torch.cat(kinds))
        self._constant("delta_std", torch.cat([self._delta_std(s) for s in self.segments]))
        for name, camera in spec.cameras.items():
            if camera.std:
                self._constant(_key("mean", name), torch.tensor(camera.mean))
                self._constant(_key("std", name), torch.tensor(camera.std))
        for name, vector in {**spec.vectors, "action": spec.action}.items():
            self._constant(_key("mean", name), torch.tensor(vector.mean))
            self._constant(_key("std", name), torch.tensor(vector.std))

    def _constant(self, name: str, value: Tensor) -> None:
        # Follows from the spec, so it is not saved with the weights.
        self.register_buffer(name, value, persistent=False)

    def _delta_std(self, segment: Segment) -> Tensor:
        if segment.is_image:
            std = self.spec.cameras[segment.name].delta_std
            return torch.full((segment.num_tokens * segment.token_len,), std)
        vector = self.spec.vectors[segment.name]
        return torch.tensor(vector.delta_std) / torch.tensor(vector.std)

    def normalise_vector(self, name: str, values: Tensor) -> Tensor:
        """Return values, (..., D), of a vector, "action" or latents with mean 0 and deviation 1."""
        return (values - self.get_buffer(_key("mean", name))) / self.get_buffer(_key("std", name))

    def _units(self, name: str, values: Tensor) -> Tensor:
        """Undo `normalise_vector`."""
        return values * self.get_buffer(_key("std", name)) + self.get_buffer(_key("mean", name))

    def pack(self, clip: Clip) -> Tensor:
        """Return the frames of a batched clip as packed values, (B, T, M); invalid values are 0."""
        parts = [self._pack_segment(s, clip) for s in self.segments]
        return torch.cat(parts, dim=-1)

    def _pack_segment(self, segment: Segment, clip: Clip) -> Tensor:
        valid = clip.valid[segment.name][..., None]  # (B, T, 1)
        if not segment.is_image:
            values = self.normalise_vector(segment.name, clip.vectors[segment.name])
            return values.masked_fill(~valid, 0.0)
        image = clip.images[segment.name].to(self.delta_std.dtype)
        camera = self.spec.cameras[segment.name]
        if camera.kind == "pixels":
            image = image / 127.5 - 1
        elif camera.std:
            image = self.normalise_vector(segment.name, image)
        p = self.patch_size
        patches = rearrange(image, "b t (h p) (w q) c -> b t (h w p q c)", p=p, q=p)
        return patches.masked_fill(~valid, 0.0)

    def token_valid(self, valid: Mapping[str, Tensor]) -> Tensor:
        """Return which tokens hold data, (B, T, N) bool, from a validity per key, (B, T) each."""
        parts = [valid[s.name][..., None].expand(-1, -1, s.num_tokens) for s in self.segments]
        return torch.cat(parts, dim=-1)

    def value_valid(self, token_valid: Tensor) -> Tensor:
        """Spread a validity per token, (..., N), over packed values, (..., M)."""
        parts = [
            token_valid[..., s.tokens, None].expand(*token_valid.shape[:-1], -1, s.token_len)
            for s in self.segments
        ]
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)

    def clamp(self, packed: Tensor) -> Tensor:
        """Return packed values, (..., M), with pixels limited to the range that images have."""
        parts = []
        for s in self.segments:
            part = packed[..., s.values]
            is_pixels = s.is_image and self.spec.cameras[s.name].kind == "pixels"
            parts.append(part.clamp(-1, 1) if is_pixels else part)
        return torch.cat(parts, dim=-1)

    def unpack_images(self, packed: Tensor) -> dict[str, Tensor]:
        """Return each camera's images, (..., H, W, C): uint8 for pixels, float for latents."""
        images = {}
        for s in self.segments:
            if not s.is_image:
                continue
            camera, p = self.spec.cameras[s.name], self.patch_size
            h, w = camera.height // p, camera.width // p
            image = rearrange(
                packed[..., s.values], "... (h w p q c) -> ... (h p) (w q) c", h=h, w=w, p=p, q=p
            )
            if camera.kind == "pixels":
                image = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            elif camera.std:
                image = self._units(s.name, image)
            images[s.name] = image
        return images

    def unpack_vectors(self, packed: Tensor) -> dict[str, Tensor]:
        """Return each vector in the units of the data, (..., D)."""
        return {
            s.name: self._units(s.name, packed[..., s.values])
            for s in self.segments
            if not s.is_image
        }

    def positions(self) -> Tensor:
        """Return row and column of each token in its camera's grid, (N, 2); vectors are at 0."""
        parts = []
        for s in self.segments:
            if not s.is_image:
                parts.append(torch.zeros(1, 2))
                continue
            camera = self.spec.cameras[s.name]
            rows = torch.arange(camera.height // self.patch_size)
            columns = torch.arange(camera.width // self.patch_size)
            parts.append(torch.cartesian_prod(rows, columns).float())
        return torch.cat(parts)


def _key(statistic: str, name: str) -> str:
    # Buffer names may not hold dots, which LeRobot's keys do.
    return f"{statistic}_{name.replace('.', '/')}"
