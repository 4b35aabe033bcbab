import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scd_wm.clip import collate
from scd_wm.evaluation.networks import FVD_FRAMES, Networks, VideoNetwork
from scd_wm.evaluation.null_models import copy_last
from scd_wm.evaluation.perceptual import MISSING, PerceptualNetwork
from scd_wm.evaluation.result import COPY_LAST, REAL, WORLD_MODEL, ZERO
from scd_wm.spec import Spec, VectorSpec
from tests.evaluation.moving_disc import SPEC, MovingDisc, perfect


class FakeI3D(nn.Module):
    """Takes what I3D takes: (B, 3, T, H, W), 0 to 255."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        return torch.stack(
            [x.mean(dim=(1, 2, 3, 4)), torch.ones_like(x[:, 0, 0, 0, 0]) * x.shape[2]], 1
        )


@pytest.fixture
def i3d(tmp_path: Path) -> Path:
    with warnings.catch_warnings():  # I3D is published as TorchScript, which torch gives up
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(FakeI3D()), tmp_path / "i3d.pt")
    return tmp_path / "i3d.pt"


def test_a_network_of_the_user_sees_the_first_frames_of_real_and_imagined_videos(i3d: Path) -> None:
    clip = collate([MovingDisc((30,)).clip(0, 0, 24)])
    history, actions = clip.frames(0, 4), clip.actions[:, 3:]
    seeds = torch.zeros(1, dtype=torch.int64)
    imagined = {
        model: model_of(history, actions, seeds)
        for model, model_of in ((WORLD_MODEL, perfect), (COPY_LAST, copy_last), (ZERO, copy_last))
    }
    scores, features = Networks(video=VideoNetwork(i3d)).look(imagined, clip, 4, (1, 20))
    assert scores == {}
    name = f"features FVD of the first {FVD_FRAMES} imagined frames, I3D of i3d.pt/top"
    assert set(features) == {WORLD_MODEL, COPY_LAST, REAL}
    assert features[REAL][name].shape == (1, 1, 2)
    assert features[REAL][name][0, 0, 1] == FVD_FRAMES
    wanted = clip.images["top"][:, 4 : 4 + FVD_FRAMES].float().mean()
    torch.testing.assert_close(features[REAL][name][0, 0, 0], wanted)


def test_weights_that_are_not_there_or_no_torchscript_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no I3D weights at"):
        VideoNetwork(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(ValueError, match="is no TorchScript file") as caught:
        VideoNetwork(tmp_path / "text.pt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_what_cannot_be_measured_is_said(i3d: Path) -> None:
    reasons = Networks().left_out(("top",), SPEC, (1, 16))
    assert reasons["ST-LPIPS and the Frechet distance on its features"] == MISSING
    assert "--i3d" in reasons["FVD"]
    short = Networks(video=VideoNetwork(i3d)).left_out(("top",), SPEC, (1, 4))
    assert short["FVD"] == "I3D needs 9 imagined frames, there are 4"
    state = Spec(vectors=SPEC.vectors, action=VectorSpec.unit(2))
    assert list(Networks().left_out((), state, (1,)).values()) == ["the world has no cameras"]


def test_perceptual_distances_are_given_at_the_horizons_only() -> None:
    clip = collate([MovingDisc((30,)).clip(0, 0, 12), MovingDisc((30,), 1).clip(0, 0, 12)])
    clip.valid["top"][1, 7] = False
    seeds = torch.zeros(2, dtype=torch.int64)
    imagined = {WORLD_MODEL: copy_last(clip.frames(0, 4), clip.actions[:, 3:], seeds)}
    networks = Networks(perceptual=PerceptualNetwork().requires_grad_(False))  # without weights
    scores, features = networks.look(imagined, clip, 4, (1, 4, 8))
    known = ~scores[WORLD_MODEL]["st_lpips/top"].isnan()
    assert known[0].nonzero().flatten().tolist() == [0, 3, 7]
    assert known[1].nonzero().flatten().tolist() == [0, 7]
    (layers,) = features[REAL].values()
    assert layers.shape == (2, 3, 256)
