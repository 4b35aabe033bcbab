"""Trained networks that look at frames: a perceptual distance, and features for Frechet distances.

None is shipped: ST-LPIPS is read from an installed package, I3D from a file of the user's.

Axes: B clips, T frames, H height, W width, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.perceptual import (
    FEATURES,
    MISSING,
    NAME,
    SMALLEST,
    PerceptualNetwork,
    perceive,
)
from scd_wm.evaluation.result import COPY_LAST, REAL, ROUND_TRIP, SHUFFLED, WORLD_MODEL
from scd_wm.evaluation.scores import MetricInfo, view_label
from scd_wm.imagination import Frames
from scd_wm.spec import Spec

LOOKED_AT = (WORLD_MODEL, COPY_LAST, SHUFFLED, ROUND_TRIP)  # models; a network takes its time
FVD_FRAMES = 16  # imagined frames of a video, as most publish
FEWEST_FRAMES = 9  # fewer vanish in I3D's strides
FVD = f"FVD of the first {FVD_FRAMES} imagined frames"

Named = dict[str, dict[str, Tensor]]  # model: name: tensor


@dataclass(frozen=True)
class Networks:
    """Those that there are.

    Attributes:
        perceptual: Of the distance of single frames.
        video: I3D, for FVD.
    """

    perceptual: PerceptualNetwork | None = None
    video: VideoNetwork | None = None

    def left_out(
        self, cameras: Sequence[str], spec: Spec, horizons: Sequence[int]
    ) -> dict[str, str]:
        """Say what cannot be measured, and why."""
        reasons: dict[str, str] = {}
        sizes = {n: min(spec.cameras[n].height, spec.cameras[n].width) for n in cameras}
        small = [n for n, size in sizes.items() if size < SMALLEST]
        if not cameras:
            return {"ST-LPIPS and Frechet distances": "the world has no cameras"}
        if self.perceptual is None:
            reasons["ST-LPIPS and the Frechet distance on its features"] = MISSING
        elif small:
            reasons["ST-LPIPS"] = f"images of {', '.join(small)} are below {SMALLEST} pixels"
        if self.video is None:
            reasons["FVD"] = "no I3D weights were given; see --i3d"
        elif horizons[-1] < FEWEST_FRAMES:
            reasons["FVD"] = f"I3D needs {FEWEST_FRAMES} imagined frames, there are {horizons[-1]}"
        return reasons

    def infos(self, cameras: Sequence[str]) -> dict[str, MetricInfo]:
        """Return what the metrics mean."""
        return {
            f"st_lpips/{name}": MetricInfo(NAME + view_label(name, cameras), "", "lower", "image")
            for name in cameras
        }

    def look(
        self, imagined: Mapping[str, Frames], clip: Clip, history: int, horizons: Sequence[int]
    ) -> tuple[Named, Named]:
        """Look at a batch of clips: at the horizons only, and at videos.

        Returns:
            Scores, (B, T), NaN but at horizons; and features, "features NAME/CAMERA", (B, T', D).
        """
        scores: Named = {}
        features: Named = {}
        looked = {m: f for m, f in imagined.items() if m in LOOKED_AT}
        for camera in looked[WORLD_MODEL].images:
            real = clip.images[camera][:, history:]
            shown = {m: f.images[camera] for m, f in looked.items() if camera in f.images}
            if self.perceptual is not None and min(real.shape[2:4]) >= SMALLEST:
                at = [h - 1 for h in horizons]
                picked = {m: images[:, at] for m, images in shown.items()}
                apart, layers = perceive(self.perceptual, picked, real[:, at])
                valid = clip.valid[camera][:, history:]
                for model, values in apart.items():
                    row = torch.full(valid.shape, torch.nan, dtype=torch.float64)
                    row[:, at] = values.double().where(valid[:, at], torch.nan)
                    scores.setdefault(model, {})[f"st_lpips/{camera}"] = row
                for model, values in layers.items():
                    name = f"features {FEATURES}/{camera}"
                    features.setdefault(model or REAL, {})[name] = values
            if self.video is not None and horizons[-1] >= FEWEST_FRAMES:
                name = f"features {FVD}, {self.video.name}/{camera}"
                for model, images in {REAL: real, **shown}.items():
                    seen = self.video.features(images[:, :FVD_FRAMES])[:, None]
                    features.setdefault(model, {})[name] = seen
        return scores, features


class VideoNetwork:
    """I3D as a TorchScript file, as StyleGAN-V and others use it for FVD (i3d_torchscript.pt).

    TorchScript is a program: opening one runs it. Only give files that you trust.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no TorchScript.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"no I3D weights at {path}")
        self.name = f"I3D of {Path(path).name}"
        with warnings.catch_warnings():  # what torch advises instead cannot read such files
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                # torch has no types here
                network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                why = str(error).splitlines()[0].split(". ")[0]
                raise ValueError(f"{path} is no TorchScript file: {why}") from None
        self._network = network.eval()

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Return features of videos, (B, D).

        Args:
            images: (B, T, H, W, 3) uint8.
        """
        video = rearrange(images, "b t h w c -> b c t h w").float()
        return self._network(video, rescale=True, resize=True, return_features=True)
