import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from scd_wm.evaluation import metrics


def images(seed: int, size: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (2, 3, size, size, 3), generator=generator, dtype=torch.uint8)


def test_psnr_equals_torchmetrics() -> None:
    a, b = images(0), images(1)
    expected = peak_signal_noise_ratio(
        a.float(), b.float(), data_range=255.0, reduction="none", dim=(2, 3, 4)
    )
    torch.testing.assert_close(metrics.psnr(a, b).float(), expected)


def test_psnr_of_equal_images_is_the_cap() -> None:
    assert (metrics.psnr(images(0), images(0)) == metrics.PSNR_CAP_DB).all()


def test_psnr_of_a_constant_error_is_its_closed_form() -> None:
    real = torch.full((1, 1, 4, 4, 3), 100, dtype=torch.uint8)
    expected = 20 * np.log10(255 / 10)
    assert metrics.psnr(real + 10, real).item() == pytest.approx(expected)


def test_masked_psnr_sees_the_mask_only_and_an_empty_mask_gives_nan() -> None:
    real = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    imagined = real.clone()
    imagined[..., 0, 0, :] = 10
    imagined[..., 3, 3, :] = 200
    mask = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    mask[0, 0, 0, 0] = True
    result = metrics.psnr(imagined, real, mask)
    assert result[0, 0].item() == pytest.approx(20 * np.log10(25.5))
    assert result[0, 1].isnan()


def test_moving_region_is_the_changed_pixel_and_its_neighbours() -> None:
    last = torch.full((1, 6, 6, 3), 100, dtype=torch.uint8)
    real = last[:, None].repeat(1, 2, 1, 1, 1)
    real[0, 1, 2, 3, 1] = 150
    real[0, 1, 5, 0, 1] = 100 + int(metrics.MOVING_THRESHOLD)  # not more than the threshold
    region = metrics.moving_region(real, last)
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert not region[0, 0].any()
    assert region[0, 1].equal(expected)


def _edge(width: int, column: int = 12) -> torch.Tensor:
    """Return an image, (1, 1, 24, 24, 3), that turns from black to white over some pixels."""
    ramp = ((torch.arange(24) - column) / width + 1).clamp(0, 1) * 240
    return ramp.round().to(torch.uint8)[None, None, None, :, None].expand(1, 1, 24, 24, 3)


def test_sharpness_of_a_spread_edge_falls_as_its_width_and_of_itself_is_one() -> None:
    last = torch.zeros(1, 24, 24, 3, dtype=torch.uint8)
    real = _edge(1)
    assert metrics.sharpness(real, real, last).item() == 1
    for width in (2, 4, 8):  # a ramp has `width` differences of 1 / width each
        ratio = metrics.sharpness(_edge(width), real, last)
        assert ratio.item() == pytest.approx(1 / width)


def test_sharpness_counts_what_moved_in_either_and_nothing_that_rests() -> None:
    last = _edge(1)[:, 0].clone()
    real, imagined = last[:, None].clone(), last[:, None].clone()
    assert metrics.sharpness(imagined, real, last).isnan()
    real[0, 0, 3, 3] = 200
    assert metrics.sharpness(imagined, real, last) == 0
    imagined[0, 0, 20, 3] = 200  # as sharp, in another place
    assert metrics.sharpness(imagined, real, last) == 1


@pytest.mark.parametrize("size", [11, 24, 40])
def test_ssim_equals_torchmetrics(size: int) -> None:
    a, b = images(0, size), images(0, size)
    b = (b.float() * 0.7 + 0.3 * images(2, size)).to(torch.uint8)
    x, y = (v.flatten(0, 1).permute(0, 3, 1, 2).float() for v in (a, b))
    expected = structural_similarity_index_measure(x, y, data_range=255.0, reduction="none")
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(metrics.ssim(a, b).float().flatten(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [3, 8])
def test_ssim_of_tiny_equal_images_is_one(size: int) -> None:
    torch.testing.assert_close(
        metrics.ssim(images(0, size), images(0, size)), torch.ones(2, 3).double()
    )


def test_vector_errors_are_their_closed_forms() -> None:
    real = torch.zeros(1, 1, 4)
    imagined = torch.tensor([[[3.0, -4.0, 0.0, 1.0]]])
    assert metrics.rmse(imagined, real).item() == pytest.approx(np.sqrt(26 / 4))
    assert metrics.mean_abs_error(imagined, real).item() == pytest.approx(2.0)
    assert metrics.distance(imagined, real, 2).item() == pytest.approx(5.0)


def test_scores_of_events_are_their_closed_forms_and_stay_finite() -> None:
    probability, happened = torch.tensor([[0.8, 0.8, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    torch.testing.assert_close(
        metrics.brier_score(probability, happened).float(), torch.tensor([[0.04, 0.64, 1.0]])
    )
    expected = -torch.log(torch.tensor([[0.8, 0.2, metrics.PROBABILITY_FLOOR]]))
    torch.testing.assert_close(metrics.log_loss(probability, happened).float(), expected)
