"""The convolutional head: the order of its pixels, how it starts, what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model.layout import FrameLayout
from scd_wm.model.refiner import PixelRefiner
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec


def test_its_maps_have_the_pixels_in_the_order_of_packed_frames() -> None:
    spec = testing.image_spec()
    layout = FrameLayout(spec, 8)
    refiner = PixelRefiner(layout, layout.segments[0], dim=32, num_channels=4)
    packed = layout.pack(testing.clip(spec, 1, 3))[0]  # (T, M)
    image = rearrange(refiner._pixels(packed), "f h p w q c -> f c (h p) (w q)")
    assert image.shape == (3, 3, 16, 24)
    half = rearrange(image, "f c (h i) (w j) -> f (i j c) h w", i=2, j=2)
    again = refiner._packed(half).flatten(1)
    assert torch.equal(again, packed[:, layout.segments[0].values])


def test_it_adds_nothing_at_first() -> None:
    model = SCDWorldModel(testing.image_spec(), testing.config(refine_channels=4))
    clip = testing.clip(model.spec, 2, 3)
    frames = rollout(model, clip, torch.zeros(2, 2, 2), num_steps=2)
    assert torch.equal(frames.images["top"][:, 1], clip.images["top"][:, -1])


def test_where_cover_is_one_the_last_frame_is_gone() -> None:
    model = SCDWorldModel(testing.image_spec(), testing.config(refine_channels=4))
    head = model.decoder.refiners[0]
    assert isinstance(head, PixelRefiner)
    assert head.cover.bias is not None
    assert head.paint.bias is not None
    with torch.no_grad():
        head.cover.bias.fill_(1.0)
        head.paint.weight.zero_()
        head.paint.bias.fill_(0.2)
    clip = testing.clip(model.spec, 2, 3)
    images = rollout(model, clip, torch.zeros(2, 2, 2)).images["top"]
    assert (images == 153).all()  # 0.2 of -1 to 1


def test_it_changes_its_own_camera_only() -> None:
    with_head = testing.model(refine_channels=4)
    plain = testing.model()
    plain.load_state_dict(with_head.state_dict(), strict=False)
    clip, actions = testing.clip(plain.spec, 2, 3), torch.zeros(2, 1, 2)
    frames = [rollout(m, clip, actions, num_steps=1) for m in (with_head, plain)]
    assert torch.equal(*(f.vectors["proprio"] for f in frames))
    assert not torch.equal(*(f.images["top"] for f in frames))


def test_an_odd_patch_size_is_refused() -> None:
    layout = FrameLayout(testing.image_spec(), 1)
    with pytest.raises(ValueError, match="refine_channels needs an even patch_size, got 1"):
        PixelRefiner(layout, layout.segments[0], dim=32, num_channels=4)


def test_on_latents_it_works_on_every_cell() -> None:
    camera = CameraSpec(height=3, width=6, channels=5, kind="latent")
    spec = Spec(cameras={"top": camera}, action=VectorSpec.unit(2))
    layout = FrameLayout(spec, 3)  # odd
    refiner = PixelRefiner(layout, layout.segments[0], dim=32, num_channels=4)
    packed = layout.pack(testing.clip(spec, 1, 3))[0]  # (T, M)
    image = rearrange(refiner._pixels(packed), "f h p w q c -> f c (h p) (w q)")
    assert torch.equal(refiner._packed(image).flatten(1), packed)
    assert refiner(torch.zeros(3, 2, 32), packed, packed).shape == packed.shape


def test_it_is_the_written_out_convolutions() -> None:
    """Weights on disk know the order of channels: the last frame, the noisy one, places."""
    spec = testing.image_spec()
    layout = FrameLayout(spec, 8)
    refiner = testing.untied(PixelRefiner(layout, layout.segments[0], dim=32, num_channels=4))
    last, noisy = layout.pack(testing.clip(spec, 2, 3))  # (3, M)
    tokens = torch.randn(3, layout.num_tokens, 32, generator=torch.Generator().manual_seed(0))
    pictures = "f (h w p q c) -> f c (h p) (w q)"
    grid = {"h": 2, "w": 3}
    values, pixels = layout.segments[0].values, {**grid, "p": 8, "q": 8}
    images = [rearrange(x[:, values], pictures, **pixels) for x in (last, noisy)]
    places = refiner.from_tokens(tokens[:, :6]).flatten(1)
    maps = [
        refiner.from_images(torch.cat(images, 1)),
        rearrange(places, pictures, **grid, p=4, q=4),
    ]
    x = F.silu(refiner.mix(F.silu(torch.cat(maps, 1))))
    x = x + F.silu(refiner.refine(x))
    out, paint, cover = (
        F.pixel_shuffle(_channels_first(maps, 4), 2)
        for maps in (refiner.out(x), refiner.paint(x), refiner.cover(x))
    )
    expected = out + cover * (paint - images[0]) / refiner.delta_std
    found = rearrange(refiner(tokens, last, noisy), pictures, **pixels)
    assert torch.allclose(found, expected, atol=1e-5)


def _channels_first(maps: torch.Tensor, area: int) -> torch.Tensor:
    """Return maps whose channels count places of a block first, as torch counts them."""
    return rearrange(maps, "f (a c) h w -> f (c a) h w", a=area)
