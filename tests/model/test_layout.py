"""Packing frames into vectors and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scd_wm import testing
from scd_wm.model.layout import FrameLayout
from scd_wm.spec import CameraSpec, Spec, VectorSpec


def test_unpacking_undoes_packing() -> None:
    spec = testing.image_spec()
    layout = FrameLayout(spec, 8)
    clip = testing.clip(spec, 2, 3)
    packed = layout.pack(clip)
    assert packed.shape == (2, 3, layout.num_values)
    assert torch.equal(layout.unpack_images(packed)["top"], clip.images["top"])
    torch.testing.assert_close(layout.unpack_vectors(packed)["proprio"], clip.vectors["proprio"])


def test_a_patch_of_the_image_is_one_token() -> None:
    spec = testing.image_spec()
    layout = FrameLayout(spec, 8)
    clip = testing.clip(spec, 1, 1)
    changed = clip.images["top"].clone()
    changed[0, 0, 8:16, 16:24] = (
        255 - changed[0, 0, 8:16, 16:24]
    )  # row 1, column 2 of 2 x 3 patches
    other = layout.pack(replace(clip, images={"top": changed}))
    tokens = layout.token_of_value[(other != layout.pack(clip))[0, 0]]
    assert set(tokens.tolist()) == {5}
    assert layout.positions()[5].tolist() == [1, 2]


def test_invalid_entries_are_packed_as_zero_and_masked_token_by_token() -> None:
    spec = testing.image_spec()
    layout = FrameLayout(spec, 8)
    clip = testing.clip(spec, 1, 2)
    valid = {**clip.valid, "proprio": torch.tensor([[True, False]])}
    clip = replace(clip, valid=valid)
    proprio = layout.segments[-1]
    assert (layout.pack(clip)[0, 1, proprio.values] == 0).all()
    assert layout.token_valid(valid)[0, 1].tolist() == [True] * 6 + [False]


def test_the_change_of_a_vector_is_in_units_of_its_deviation() -> None:
    layout = FrameLayout(testing.image_spec(), 8)
    proprio = layout.segments[-1]
    torch.testing.assert_close(layout.delta_std[proprio.values], torch.tensor([0.2, 0.2, 0.15]))
    assert (layout.delta_std[: proprio.first_value] == torch.tensor(0.2)).all()


def test_pixels_become_minus_one_to_one_and_latents_stay() -> None:
    spec = Spec(
        cameras={
            "pixels": CameraSpec(height=8, width=8),
            "latents": CameraSpec(height=8, width=8, channels=5, kind="latent"),
        },
        action=VectorSpec.unit(1),
    )
    layout = FrameLayout(spec, 4)
    clip = testing.clip(spec, 1, 1)
    packed = layout.pack(clip)
    pixels, latents = layout.segments
    assert packed[..., pixels.values].abs().max() <= 1
    assert torch.equal(layout.unpack_images(packed)["latents"], clip.images["latents"])
    assert layout.clamp(packed * 100)[..., latents.values].abs().max() > 1


def test_a_patch_size_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(
        ValueError, match="camera 'top' is 16x24, which patch_size=5 does not divide"
    ):
        FrameLayout(testing.image_spec(), 5)
