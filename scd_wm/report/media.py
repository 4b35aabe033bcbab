"""Makes what there is to see of a world model: videos, film strips and tracks of held-out clips.

Axes: B clips, T frames, H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.clips import ClipPlace, ClipSource, choose_clips, fitting_horizons
from scd_wm.evaluation.evaluate import clip_seeds, read_clips
from scd_wm.evaluation.locate import TrackedColour
from scd_wm.evaluation.null_models import Imagine, derangement
from scd_wm.evaluation.scores import default_position_vectors, view_label
from scd_wm.imagination import Frames
from scd_wm.report import tracks
from scd_wm.report.drawing import Images, Panel, compose, difference, film_strip
from scd_wm.report.items import Media, Picture, Video
from scd_wm.report.video import encode_mp4, encode_png
from scd_wm.spec import DEFAULT_FPS, Spec

MAX_FPS = 30.0


@dataclass(frozen=True, kw_only=True)
class MediaConfig:
    """How much is shown, and at which size."""

    history: int = 4  # real frames given
    horizons: tuple[int, ...] = (1, 4, 8, 16, 32)  # columns of film strips; videos go to the last
    num_comparisons: int = 6  # clips shown beside what really happened
    num_strips: int = 3  # of those, as film strips
    num_starts: int = 2  # clips shown with several futures and under other actions
    num_futures: int = 4  # imagined from one start with different noise
    seed: int = 1  # of the choice of clips and the noise
    panel_width: int = 192  # pixels of a panel, about


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The clips that are shown and what was imagined of them."""

    spec: Spec
    config: MediaConfig
    horizons: tuple[int, ...]
    places: tuple[ClipPlace, ...]
    names: tuple[str, ...]  # of the clips, to read
    clip: Clip  # batched, history and real future
    imagined: Frames  # of every clip, under its own actions
    futures: tuple[Frames, ...]  # the same starts and actions with other noise, the first few clips
    others: tuple[tuple[str, Frames], ...]  # caption and frames under other actions, the same clips

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that can be shown."""
        every = self.spec.cameras.items()
        return tuple(n for n, c in every if c.kind == "pixels" and c.channels == 3)

    @property
    def fps(self) -> float:
        """Frames a second of the videos: those of the data, where it says."""
        return min(self.spec.fps or DEFAULT_FPS, MAX_FPS)

    @property
    def num_starts(self) -> int:
        """Clips that are shown with several futures."""
        return min(self.config.num_starts, len(self.places))

    def real(self, camera: str, row: int) -> Images:
        """Return a clip as it really went, (T, H, W, 3)."""
        return self.clip.images[camera][row].numpy()

    def continued(self, camera: str, row: int, frames: Frames) -> Images:
        """Return the history of a clip and then what was imagined, (T, H, W, 3)."""
        given = self.clip.images[camera][row, : self.config.history]
        return torch.cat([given, frames.images[camera][row]]).numpy()


def make_media(
    imagine: Imagine,
    source: ClipSource,
    spec: Spec,
    config: MediaConfig,
    tracked_colours: Mapping[str, TrackedColour] | None = None,
    draw: Imagine | None = None,
) -> Media:
    """Imagine a few held-out clips and make videos, film strips and tracks of them.

    Shown are the clips in which most happens among four times as many drawn at random. "Most" is
    measured on the real frames, before anything is imagined.

    Args:
        imagine: The world model.
        source: Held-out episodes.
        spec: What a frame of them holds.
        config: How much to show.
        tracked_colours: Objects to follow by colour.
        draw: The same model with sampler steps enough for noise to matter, for several futures
            from one start; None takes `imagine`.

    Raises:
        ValueError: If no episode is long enough.
    """
    stage = _set_stage(imagine, draw or imagine, source, spec, config)
    given = config.history
    drawings = [
        *tracks.located_paths(
            stage.clip, stage.imagined, given, stage.names, tracked_colours or {}
        ),
        *tracks.vector_paths(
            stage.clip, stage.imagined, given, stage.names, default_position_vectors(spec)
        ),
    ]
    for row in range(stage.num_starts):
        real = {k: v[row] for k, v in stage.clip.vectors.items()}
        futures = {k: torch.stack([f.vectors[k][row] for f in stage.futures]) for k in real}
        drawings += tracks.vector_tracks(real, futures, given, stage.names[row])
    return Media(
        comparisons=_comparisons(stage),
        futures=_futures(stage),
        actions=_actions(stage),
        strips=_strips(stage),
        drawings=tuple(drawings),
        history=given,
        horizon=stage.horizons[-1],
        fps=stage.fps,
    )


def _set_stage(
    imagine: Imagine, draw: Imagine, source: ClipSource, spec: Spec, config: MediaConfig
) -> Stage:
    """Choose clips and imagine all that is to be shown."""
    horizons, _ = fitting_horizons(source, config.history, config.horizons)
    places = _lively_places(source, config.history, horizons[-1], config)
    clip = read_clips(source, places, config.history + horizons[-1])
    history, actions = clip.frames(0, config.history), clip.actions[:, config.history - 1 :]
    seeds = clip_seeds(len(places) * (config.num_futures + 1), config.seed).reshape(-1, len(places))
    starts = min(config.num_starts, len(places))
    first = clip.map(lambda tensor: tensor[:starts]).frames(0, config.history)
    return Stage(
        spec=spec,
        config=config,
        horizons=horizons,
        places=places,
        names=tuple(f"{source.episodes[p.episode].name}, frame {p.start}" for p in places),
        clip=clip,
        imagined=imagine(history, actions, seeds[0]),
        futures=tuple(draw(first, actions[:starts], s[:starts]) for s in seeds[1:]),
        others=tuple(
            (caption, imagine(first, other[:starts], seeds[0, :starts]))
            for caption, other in _other_actions(actions, places, config.seed)
        ),
    )


def _lively_places(
    source: ClipSource, history: int, horizon: int, config: MediaConfig
) -> tuple[ClipPlace, ...]:
    """Return the places in which most happens, of four times as many."""
    wanted = max(config.num_comparisons, config.num_starts)
    places = choose_clips(source, history + horizon, 4 * wanted, config.seed)
    clips = [source.clip(p.episode, p.start, history + horizon) for p in places]
    moved = torch.stack([torch.stack(_motion(c, history)) for c in clips])  # (places, entries)
    score = (moved / moved.mean(dim=0).clamp(min=1e-9)).mean(dim=1)
    ranked = [places[i] for i in score.argsort(descending=True, stable=True).tolist()]
    apart: list[ClipPlace] = []
    for place in ranked:  # not two of nearly the same moment
        if not any(_overlap(place, other, horizon) for other in apart):
            apart.append(place)
    return tuple([*apart, *(p for p in ranked if p not in apart)][:wanted])


def _overlap(one: ClipPlace, other: ClipPlace, horizon: int) -> bool:
    return one.episode == other.episode and abs(one.start - other.start) < horizon / 2


def _motion(clip: Clip, history: int) -> list[Tensor]:
    """Return how far each entry of a clip moves from the last frame of its history, on average."""
    entries = {**clip.images, **clip.vectors}
    return [(v[history:].float() - v[history - 1].float()).abs().mean() for v in entries.values()]


def _other_actions(
    actions: Tensor, places: tuple[ClipPlace, ...], seed: int
) -> list[tuple[str, Tensor]]:
    """Return captions and actions that were not taken, (B, T, A)."""
    others = [("actions all zero", torch.zeros_like(actions))]
    if len(places) < 2:
        return others
    episodes = [str(p.episode) for p in places]
    first, second = (torch.from_numpy(derangement(episodes, seed + i)) for i in range(2))
    return [("another clip's", actions[first]), ("a third clip's", actions[second]), *others]


def _comparisons(stage: Stage) -> tuple[Video, ...]:
    """Return each clip as it really went beside what was imagined, a row a camera."""
    given, videos = stage.config.history, []
    for row in range(min(stage.config.num_comparisons, len(stage.places))):
        panels: list[Panel] = []
        for camera in stage.cameras:
            panels += [
                Panel("real" + view_label(camera, stage.cameras), stage.real(camera, row)),
                Panel("imagined", stage.continued(camera, row, stage.imagined), given),
            ]
        if panels:
            frames = compose(panels, 2, given, stage.config.panel_width)
            videos.append(
                Video(f"comparison_{row + 1}", stage.names[row], encode_mp4(frames, stage.fps))
            )
    return tuple(videos)


def _futures(stage: Stage) -> tuple[Video, ...]:
    """Return several futures imagined from one start, beside the real one."""
    captioned = [(f"future {i + 1}", f) for i, f in enumerate(stage.futures)]
    return _beside(stage, "futures", captioned)


def _actions(stage: Stage) -> tuple[Video, ...]:
    """Return what is imagined from one start under its own and other actions."""
    return _beside(stage, "actions", [("its own actions", stage.imagined), *stage.others])


def _beside(stage: Stage, name: str, captioned: list[tuple[str, Frames]]) -> tuple[Video, ...]:
    """Return for each start a video of the real clip and several imagined ones, a row a camera."""
    given, videos = stage.config.history, []
    for row in range(stage.num_starts if stage.cameras else 0):
        panels: list[Panel] = []
        for camera in stage.cameras:
            real = "real" + view_label(camera, stage.cameras)
            panels.append(Panel(real, stage.real(camera, row)))
            for caption, frames in captioned:
                panels.append(Panel(caption, stage.continued(camera, row, frames), given))
        film = compose(panels, len(captioned) + 1, given, stage.config.panel_width)
        videos.append(Video(f"{name}_{row + 1}", stage.names[row], encode_mp4(film, stage.fps)))
    return tuple(videos)


def _strips(stage: Stage) -> tuple[Picture, ...]:
    """Return film strips of the first clips."""
    given, pictures = stage.config.history, []
    columns = [given - 1, *(given - 1 + h for h in stage.horizons)]
    labels = ["given", *(f"+{h}" for h in stage.horizons)]
    for row in range(min(stage.config.num_strips, len(stage.places))):
        for camera in stage.cameras:
            real = stage.real(camera, row)[columns]
            imagined = stage.continued(camera, row, stage.imagined)[columns]
            rows = [
                ("real", real),
                ("imagined", imagined),
                ("difference", difference(imagined, real)),
            ]
            view = view_label(camera, stage.cameras)
            name = f"strip_{row + 1}_{camera.replace('/', '_')}"
            pictures.append(
                Picture(name, stage.names[row] + view, encode_png(film_strip(rows, labels)))
            )
    return tuple(pictures)
