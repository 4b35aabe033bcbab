"""The kernel for GPUs gives what slices give; on a CPU it runs uncompiled, and forward only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from scd_wm import testing
from scd_wm.model import attention, attention_flex, entangled
from scd_wm.model.world_model import WorldModel

Make = Callable[[], WorldModel]

# On a CPU it runs so, and what is compared is the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*called without torch.compile:UserWarning")


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(attention_flex.VARIABLE, "sliced")


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("window", [1, 3, 10])
@pytest.mark.parametrize(("num_frames", "num_tokens"), [(1, 5), (6, 4), (5, 65)])
def test_a_band_is_that_of_slices(window: int, num_frames: int, num_tokens: int) -> None:
    """Within one block of keys and over several, which frames do not fill evenly."""
    q, k, v = torch.randn(3, 2, num_frames, num_tokens, 2, 16).unbind(0)
    expected = attention.attend_banded(q, k, v, window)
    torch.testing.assert_close(attention_flex.attend_banded(q, k, v, window), expected)


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("window", [1, 3, 10])
@pytest.mark.parametrize(("num_frames", "num_tokens"), [(1, 5), (6, 4), (5, 65)])
def test_a_history_is_that_of_slices(window: int, num_frames: int, num_tokens: int) -> None:
    keys, values = torch.randn(2, 2, num_frames, num_tokens, 2, 16).unbind(0)
    noisy = torch.randn(3, 2 * num_frames, num_tokens + 1, 2, 16)  # with an outcome query
    attend = partial(entangled.attend_history, keys, values, window)
    attend_flex = partial(attention_flex.attend_history, keys, values, window)
    torch.testing.assert_close(attend_flex(*noisy.unbind(0)), attend(*noisy.unbind(0)))


@pytest.mark.parametrize("make", [testing.model, testing.entangled])
def test_the_loss_is_that_of_slices(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    clip, seeds = testing.clip(model.spec, 2, 7), torch.arange(2)
    losses = []
    for kernel in attention_flex.KERNELS:
        monkeypatch.setenv(attention_flex.VARIABLE, kernel)
        with torch.no_grad():
            losses.append(model(clip, seeds)[0])
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("make", [testing.model, testing.entangled])
def test_the_gradient_is_that_of_slices(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().cuda()
    clip, seeds = testing.clip(model.spec, 2, 7).to("cuda"), torch.arange(2).cuda()
    found = []
    for kernel in attention_flex.KERNELS:
        monkeypatch.setenv(attention_flex.VARIABLE, kernel)
        model.zero_grad()
        model(clip, seeds)[0].backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_a_cpu_takes_slices_unless_told_otherwise() -> None:
    q = torch.zeros(1)
    assert not attention_flex.is_chosen(q, {})
    assert attention_flex.is_chosen(q, {attention_flex.VARIABLE: "flex"})
    with pytest.raises(ValueError, match=r"SCD_WM_ATTENTION must be .*'sliced'\) .*, got 'fast'"):
        attention_flex.is_chosen(q, {attention_flex.VARIABLE: "fast"})


def test_masks_are_made_once_for_a_shape() -> None:
    device = torch.device("cpu")
    first = attention_flex.band_mask(4, 8, 2, device)
    assert attention_flex.band_mask(4, 8, 2, device) is first
