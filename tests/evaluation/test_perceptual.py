import sys
from types import ModuleType

import pytest
import torch
from einops import rearrange

from scd_wm.evaluation.perceptual import PACKAGE, PerceptualNetwork, perceive

NETWORK = PerceptualNetwork.installed()
installed = pytest.mark.skipif(NETWORK is None, reason="stlpips-pytorch is not installed")


def pictures(seed: int, size: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (2, 3, size, size, 3), generator=generator).to(torch.uint8)


@installed
def test_it_equals_the_code_of_its_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their package wants three others at import, of which it uses nothing here."""
    assert NETWORK is not None
    for name, attribute in (("IPython", "embed"), ("torchsummary", "summary")):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        setattr(sys.modules[name], attribute, None)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    sys.modules["torchvision"].models = ModuleType("models")  # type: ignore[attr-defined]  # made up
    theirs = pytest.importorskip(f"{PACKAGE}.stlpips", reason="needs the extra 'perceptual'").LPIPS(
        net="alex", variant="shift_tolerant", verbose=False
    )
    for name in [n for n in sys.modules if n.startswith(PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)
    real = pictures(0)
    imagined = (real.int() // 2 + pictures(1).int() // 2).to(torch.uint8)
    distances, _ = perceive(NETWORK, {"model": imagined}, real)
    one, other = (rearrange(x, "b t h w c -> (b t) c h w") / 127.5 - 1 for x in (imagined, real))
    wanted = theirs(one, other).detach().reshape(2, 3)
    torch.testing.assert_close(distances["model"], wanted, rtol=1e-4, atol=1e-7)


@installed
def test_equal_images_are_0_apart_and_a_shift_is_nearer_than_another_picture() -> None:
    assert NETWORK is not None
    real = torch.full((1, 1, 64, 64, 3), 230, dtype=torch.uint8)
    real[:, :, 20:40, 20:40] = torch.tensor([40, 60, 230], dtype=torch.uint8)
    moved, gone = real.roll(1, dims=3), torch.full_like(real, 230)
    distances, features = perceive(NETWORK, {"same": real, "moved": moved, "gone": gone}, real)
    assert distances["same"].item() == 0
    assert distances["moved"].item() < 0.3 * distances["gone"].item()
    assert features["same"].equal(features[""])
    assert features[""].shape == (1, 1, 256)


def test_without_the_package_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scd_wm.evaluation.perceptual.find_spec", lambda name: None)
    assert PerceptualNetwork.installed() is None
