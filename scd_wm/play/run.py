"""Play a trained run: open what it needs, serve the page until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.collect import collect
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluate_run import default_device
from scd_wm.imagination import warm_up
from scd_wm.play.app import MAX_SEED, App
from scd_wm.play.server import ADDRESS, Server
from scd_wm.play.world import World
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

DEFAULT_PORT = 8642
MAX_PORT = 2**16 - 1
POLL_S = 0.2  # how often it is looked whether to end

# The data that shipped models were trained on does not ship: begin from fresh episodes like it.
SHIPPED_FROM = {
    "lift_tiny": ("scd_wm/Lift-v0", "expert"),
    "push_t_tiny": ("scd_wm/PushT-v0", "scripted"),
}  # model: environment and policy
FRESH_EPISODES = 3
FRESH_SEED = 400_000  # of none that a shipped model was trained on


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """How a run is played."""

    port: int = DEFAULT_PORT  # 0 takes a free one
    open_browser: bool = True
    no_data: bool = False  # begin from nothing: the model draws the first frame
    history: int = 4  # recorded frames that are read before an episode goes on by itself
    seed: int = 0  # of the noise of the first episode

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"port must be 0 to {MAX_PORT}, got {self.port}")
        if self.history < 1:
            raise ValueError(f"history must be 1 or more, got {self.history}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be 0 to {MAX_SEED}, got {self.seed}")


def play_run(
    run: str | Path,
    data: str | Path | None = None,
    config: PlayConfig | None = None,
    *,
    device: str | None = None,
) -> dict[str, Any]:
    """Serve a run's dream until Ctrl-C.

    Args:
        run: A run folder, an exported model, or the name of a shipped one.
        data: The data set to begin from; None is the held-out episodes of the one of training, or
            for a shipped model a few fresh episodes of its environment.
        config: How; None takes the defaults.
        device: Where the model runs; None is a CUDA device if there is one.

    Returns:
        What was played, name to text or number.

    Raises:
        FileNotFoundError: If there is nothing at `run` or `data`, or the run has no weights yet.
        KeyError, ValueError: If the data does not fit the model.
        OSError: If the port is taken.
    """
    config = PlayConfig() if config is None else config
    with tempfile.TemporaryDirectory(prefix="scd_wm_play_") as folder:
        world = open_world(run, data, config, Path(folder), device)
        with listen(App(world, config.seed), config.port) as server:
            print(f"playing {world.name} at {server.url} (Ctrl-C ends it)", flush=True)
            if config.open_browser:
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            serve(server)
            return summary(server)


def open_world(
    run: str | Path,
    data: str | Path | None,
    config: PlayConfig,
    folder: Path,
    device: str | None = None,
) -> World:
    """Load a model, and open or record what episodes begin from.

    Args:
        run: As in `play_run`.
        data: As in `play_run`.
        config: As in `play_run`.
        folder: An empty one, where episodes are recorded if need be.
        device: As in `play_run`.

    Raises:
        FileNotFoundError, KeyError, ValueError: As in `play_run`.
    """
    if config.no_data and data is not None:
        raise ValueError(f"--no-data begins from nothing, but {data} was given; leave one out")
    device = device or default_device()
    model = load_world_model(run, device, engine="auto")
    world = World(
        Path(run).resolve().name,
        model,
        None if config.no_data else _data(run, data, folder),
        load_world_autoencoder(run, device),
        config.history,
    )
    warm_up(model, 1)
    return world


def listen(app: App, port: int) -> Server:
    """Return a server at a port.

    Raises:
        OSError: If it is taken.
    """
    try:
        return Server(app, port)
    except OSError as error:
        raise OSError(
            f"cannot listen at {ADDRESS}:{port} ({error.strerror}); choose another --port, or 0 "
            "for a free one"
        ) from None


def serve(server: Server) -> None:
    """Answer until Ctrl-C, or until the process is asked to end (SIGTERM)."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.serve_forever(poll_interval=POLL_S)
    except KeyboardInterrupt:
        print()
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(server: Server) -> dict[str, Any]:
    """Return what was played, name to text or number."""
    played = server.app.played
    told = {"pages": played.num_sessions, "frames imagined": played.num_frames}
    if played.num_frames == 0:
        return told
    return {**told, "frames a second of imagining": played.num_frames / played.busy_s}


def _data(run: str | Path, data: str | Path | None, folder: Path) -> RobotDataset:
    """Return what episodes begin from."""
    if data is None and not Path(run).exists() and str(run) in SHIPPED_FROM:
        env_id, policy = SHIPPED_FROM[str(run)]
        print(f"no data set is named: recording {FRESH_EPISODES} episodes of {env_id}", flush=True)
        data = folder / "fresh.hdf5"
        collect(env_id, policy, FRESH_EPISODES, data, seed=FRESH_SEED)
    try:
        dataset = open_run_data(run, data)
    except FileNotFoundError as error:
        if data is not None:
            raise
        raise FileNotFoundError(f"{error}; name a data set, or say --no-data") from None
    dataset.prepare()
    return dataset
