"""Imagined environments by path: what `gym.make("scd_wm/Imagined-v0", model=...)` calls.

env = gym.make("scd_wm/Imagined-v0", model="runs/push_t", starts="data/push_t.hdf5")
envs = gym.make_vec("scd_wm/Imagined-v0", num_envs=64, model="runs/push_t", starts=None)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from scd_wm.autoencoder.frames import decode_frames, encode_clip
from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv, View
from scd_wm.evaluation.clips import choose_clips
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.model.world_model import WorldModel
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

Source = str | Path | RobotDataset | Clip | None


def imagined_env(
    model: str | Path | WorldModel,
    starts: Source = None,
    *,
    history: int = 4,
    num_starts: int = 64,
    device: str = "cpu",
    **kwargs: Any,
) -> ImaginedEnv:
    """Return a world model as an environment.

    Args:
        model: A run, an exported model, the name of a shipped one, or a model itself.
        starts: Where episodes begin: a data set or its path, or histories as a batched clip; None
            is the held-out episodes of the run's own data.
        history: Real frames before each episode, where they are taken from a data set.
        num_starts: How many of them, spread over its episodes.
        device: Where a model runs that is named by a path.
        kwargs: Passed on to `ImaginedEnv`.

    Raises:
        FileNotFoundError: If there is nothing at a path.
        KeyError, ValueError: If the data does not fit the model, or as in `ImaginedEnv`.
    """
    found, clip, view = _resolve(model, starts, history, num_starts, device)
    return ImaginedEnv(found, clip, **{"view": view, **kwargs})


def imagined_vector_env(
    model: str | Path | WorldModel,
    starts: Source = None,
    num_envs: int = 1,
    *,
    history: int = 4,
    num_starts: int = 64,
    device: str = "cpu",
    **kwargs: Any,
) -> ImaginedVectorEnv:
    """Return a world model as a vector environment; see `imagined_env`."""
    found, clip, view = _resolve(model, starts, history, num_starts, device)
    return ImaginedVectorEnv(found, clip, num_envs, **{"view": view, **kwargs})


def _resolve(
    model: str | Path | WorldModel, starts: Source, history: int, num_starts: int, device: str
) -> tuple[WorldModel, Clip, View | None]:
    """Return model, histories and, for a world of latents, what decodes them."""
    if isinstance(model, WorldModel):
        if not isinstance(starts, Clip | RobotDataset):
            raise ValueError("a model without a run needs starts: a data set or a batched clip")
        return model, _histories(starts, history, num_starts), None
    found = load_world_model(model, device, engine="auto")
    autoencoder = load_world_autoencoder(model, device)
    if not isinstance(starts, Clip | RobotDataset):
        starts = open_run_data(model, starts)
    clip = _histories(starts, history, num_starts)
    if autoencoder is None:
        return found, clip, None
    view = partial(decode_frames, autoencoder=autoencoder, spec=found.spec)
    return found, encode_clip(clip, autoencoder, found.spec), view


def _histories(starts: Clip | RobotDataset, history: int, num_starts: int) -> Clip:
    if isinstance(starts, Clip):
        return starts
    starts.prepare()
    return read_clips(starts, choose_clips(starts, history, num_starts, seed=0), history)
