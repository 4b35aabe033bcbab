"""The measures of the probes against closed forms and against the softmax itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scd_wm.model.attention import attend_all
from scd_wm.probe.attention_mass import attend_by_lag, uniform_share
from scd_wm.probe.redundancy import compare, principal_parts

STEPS, CLIPS, FRAMES, TOKENS = 3, 2, 2, 4


def made(of_frame: float, of_step: float, common: float = 0.0) -> torch.Tensor:
    """Return features, (S, F, N, D): each frame, step and token has a direction of its own."""
    num_frames = CLIPS * FRAMES
    basis = torch.eye(num_frames * TOKENS + STEPS * TOKENS + 1).double()
    frames = basis[: num_frames * TOKENS].reshape(1, num_frames, TOKENS, -1)
    steps = basis[num_frames * TOKENS : -1].reshape(STEPS, 1, TOKENS, -1)
    return of_frame * frames + of_step * steps + common * basis[-1]


def test_cosines_and_distances_are_those_of_known_features() -> None:
    a, b = 2.0, 0.5
    found = compare(made(a, b), CLIPS)
    apart = ~np.eye(STEPS, dtype=bool)
    raw, distance = found["raw"], found["distance"]
    np.testing.assert_allclose(raw.steps[:, apart], a**2 / (a**2 + b**2))
    np.testing.assert_allclose(raw.steps[:, ~apart], 1.0)
    np.testing.assert_allclose(raw.between_steps(), a**2 / (a**2 + b**2))
    np.testing.assert_allclose(raw.next_frame, b**2 / (a**2 + b**2))
    np.testing.assert_allclose(raw.other_clip, b**2 / (a**2 + b**2))
    np.testing.assert_allclose(distance.steps[:, apart], np.sqrt(2 * b**2 / (a**2 + b**2)))
    np.testing.assert_allclose(distance.next_frame, np.sqrt(2 * a**2 / (a**2 + b**2)))
    assert raw.next_frame.shape == (CLIPS, FRAMES - 1, STEPS)
    assert raw.other_clip.shape == (CLIPS, FRAMES, STEPS)


def test_centring_undoes_a_vector_that_all_share_and_which_misleads_the_raw_cosine() -> None:
    plain, shared = compare(made(1.0, 1.0), CLIPS), compare(made(1.0, 1.0, common=100.0), CLIPS)
    assert plain["raw"].between_steps().max() < 0.51
    assert shared["raw"].between_steps().min() > 0.999
    assert shared["raw"].other_clip.min() > 0.999
    for name in ("steps", "next_frame", "other_clip"):
        expected = getattr(plain["centred"], name)
        np.testing.assert_allclose(getattr(shared["centred"], name), expected, atol=1e-9)
    assert shared["centred"].between_steps().max() < 0.51


def test_controls_compare_the_right_frames() -> None:
    """Frames 0 and 1 are alike, and those of clip 1 are their opposite."""
    h = torch.randn(1, 1, TOKENS, 5).double().expand(STEPS, 1, TOKENS, 5)
    found = compare(torch.cat([h, h, -h, -h], dim=1), CLIPS)["raw"]
    np.testing.assert_allclose(found.next_frame, 1.0)
    np.testing.assert_allclose(found.other_clip, -1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mass_by_lag_is_the_sum_of_the_softmax_over_the_keys_of_each_lag(
    dtype: torch.dtype,
) -> None:
    random = torch.Generator().manual_seed(0)
    q = 3 * torch.randn(2, 5, 3, 16, generator=random, dtype=dtype)
    k, v = (3 * torch.randn(2, 11, 3, 16, generator=random, dtype=dtype) for _ in range(2))
    lags = torch.tensor([3, 3, 1, 0, 1, 0, 0, 3, 0, 0, 1])  # in no order, lag 2 absent
    mix, mass = attend_by_lag(q, k, v, lags, 4)
    scores = torch.einsum("fnhc,fshc->fnhs", q, k) / 16**0.5
    weights = scores.softmax(-1)
    expected = torch.stack([weights[..., lags == lag].sum(-1) for lag in range(4)], -1)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mass, expected, atol=tolerance, rtol=0.0)
    torch.testing.assert_close(mix, attend_all(q, k, v), atol=10 * tolerance, rtol=0.0)
    assert mass[..., 2].eq(0).all()
    assert uniform_share(lags) == pytest.approx(6 / 11)


def test_equal_keys_give_the_uniform_share() -> None:
    lags = torch.arange(4).flip(0).repeat_interleave(3)
    k = torch.ones(1, 12, 2, 16)
    _, mass = attend_by_lag(torch.randn(1, 3, 2, 16), k, k, lags, 4)
    torch.testing.assert_close(mass, torch.full_like(mass, 0.25))
    assert uniform_share(lags) == pytest.approx(3 / 4)  # F / (F + 1) for F = 3


def test_principal_parts_find_the_plane_that_points_lie_in() -> None:
    random = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(6, 2, generator=random, dtype=torch.float64))
    where = torch.randn(3, 20, 2, generator=random, dtype=torch.float64) * torch.tensor([5.0, 1.0])
    parts, share = principal_parts(where @ axes.T + 7.0, 3)
    assert parts.shape == (3, 20, 3)
    torch.testing.assert_close(parts[..., 2], torch.zeros(3, 20).double(), atol=1e-9, rtol=0.0)
    assert float(share.sum()) == pytest.approx(1.0)
    flat, true = parts[..., :2].flatten(0, 1), where.flatten(0, 1)
    torch.testing.assert_close(torch.cdist(flat, flat), torch.cdist(true, true))
