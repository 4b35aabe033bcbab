"""What is played in: a model, what decodes its images, and the recorded frames to begin from.

Axes: H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scd_wm import imagination
from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.frames import decode_frames, encode_clip
from scd_wm.clip import Clip, collate
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.imagination import Frames, RolloutState
from scd_wm.model.world_model import WorldModel
from scd_wm.play.actions import ActionRange, action_range

STEPS_FROM_NOTHING = 16  # at least, of the first frame: in one step it would be the mean of all


@dataclass(frozen=True)
class Shown:
    """One frame as it is looked at."""

    images: Mapping[str, np.ndarray]  # camera: (H, W, 3) uint8
    vectors: Mapping[str, np.ndarray]  # name: (D,) float32
    outcome: Mapping[str, float]  # reward in its units, the others as probabilities


@dataclass(frozen=True)
class World:
    """A world model and where episodes of it may begin."""

    name: str
    model: WorldModel  # in evaluation mode
    data: RobotDataset | None = None  # None: episodes begin from nothing
    autoencoder: FrameAutoencoder | None = None  # of a world of latents
    history: int = 4  # recorded frames that are read before an episode goes on by itself
    actions: ActionRange = field(init=False)

    def __post_init__(self) -> None:
        if self.history < 1:
            raise ValueError(f"history must be 1 or more, got {self.history}")
        if self.model.spec.has_latents and self.autoencoder is None:
            raise ValueError("the model imagines latents: give the autoencoder that decodes them")
        object.__setattr__(self, "actions", action_range(self.model.spec.action))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that can be shown."""
        cameras = self.model.spec.pixels.cameras
        return tuple(name for name, camera in cameras.items() if camera.channels == 3)

    def from_frame(self, episode: int, frame: int, seed: int) -> tuple[RolloutState, Shown]:
        """Return the state after a recorded frame and the frames before it, and that frame.

        Raises:
            ValueError: If there is no such frame.
        """
        data = self._checked(episode, frame)
        start = max(frame - self.history + 1, -1)  # -1 is the start of the episode, a token
        clip = collate([data.clip(episode, start, frame - start + 1)])
        history = clip
        if self.autoencoder is not None:
            history = encode_clip(clip, self.autoencoder, self.model.spec)
        state = imagination.begin(self.model, history, torch.tensor([seed]))
        return state, self._seen(clip)

    def from_nothing(
        self, seed: int, num_steps: int | None = None, solver: str | None = None
    ) -> tuple[RolloutState, Shown]:
        """Return a state at a first frame that the model draws itself, and that frame.

        Raises:
            ValueError: As in `imagination.step`.
        """
        nothing = imagination.start_frame(self.model.spec, 1)
        state = imagination.begin(self.model, nothing, torch.tensor([seed]))
        action = np.zeros(self.model.spec.action.dim, dtype=np.float32)
        return state, self.step(state, action, max(num_steps or 1, STEPS_FROM_NOTHING), solver)

    def step(
        self,
        state: RolloutState,
        action: np.ndarray,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> Shown:
        """Imagine the frame that an action, (A,), leads to; `state` is changed in place.

        Raises:
            ValueError: As in `imagination.step`.
        """
        actions = torch.from_numpy(action)[None]
        frames = imagination.step(self.model, state, actions, num_steps, solver)
        if self.autoencoder is not None:
            frames = decode_frames(frames, self.autoencoder, self.model.spec)
        return _shown(frames, self.cameras)

    def recorded(self, episode: int, frame: int) -> Shown:
        """Return a recorded frame.

        Raises:
            ValueError: If there is no such frame.
        """
        return self._seen(collate([self._checked(episode, frame).clip(episode, frame, 1)]))

    def recorded_action(self, episode: int, frame: int) -> np.ndarray | None:
        """Return the action taken at a recorded frame, (A,) float32; None after the last one."""
        actions = self._checked(episode, frame).arrays(episode).actions
        return np.array(actions[frame], dtype=np.float32) if frame < len(actions) else None

    def num_frames(self, episode: int) -> int:
        """Return how many frames of an episode are recorded.

        Raises:
            ValueError: If there is no such episode.
        """
        return self._checked(episode, 0).episodes[episode].num_observations

    def _checked(self, episode: int, frame: int) -> RobotDataset:
        """Return the data, if it has this frame."""
        if self.data is None:
            raise ValueError("there is no data set to begin from; begin from nothing")
        num_episodes = len(self.data.episodes)
        if not 0 <= episode < num_episodes:
            raise ValueError(f"no episode {episode}; the data has 0 to {num_episodes - 1}")
        info = self.data.episodes[episode]
        if not 0 <= frame < info.num_observations:
            last = info.num_observations - 1
            raise ValueError(
                f"no frame {frame} in episode {episode}, {info.name}: it has 0 to {last}"
            )
        return self.data

    def _seen(self, clip: Clip) -> Shown:
        """Return the last frame of a batched clip of pixels, and of its outcome what is known."""
        known = {k: v[:, -1] for k, v in clip.outcome.items() if bool(clip.valid[k][0, -1])}
        images = {k: v[:, -1] for k, v in clip.images.items()}
        vectors = {k: v[:, -1] for k, v in clip.vectors.items()}
        return _shown(Frames(images, vectors, known), self.cameras)


def _shown(frames: Frames, cameras: tuple[str, ...]) -> Shown:
    """Return the only row of frames without an axis T."""

    def numbers(values: Tensor) -> np.ndarray:
        return values[0].float().cpu().numpy().copy()

    return Shown(
        {name: frames.images[name][0].cpu().numpy().copy() for name in cameras},
        {name: numbers(values) for name, values in frames.vectors.items()},
        {name: float(numbers(values)) for name, values in frames.outcome.items()},
    )
