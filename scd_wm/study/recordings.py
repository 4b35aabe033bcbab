"""The data of a study: one recording to train on and another, of other episodes, to test on."""

from __future__ import annotations

from pathlib import Path

from scd_wm.collect import collect
from scd_wm.datasets.mixture import FORMAT
from scd_wm.study.config import Recording, World
from scd_wm.training import files

TRAIN_SEED, TEST_SEED = 10_000, 500_000  # of first episodes
SEEDS_APART = 20_000  # of the parts of a mixture
TEST_SHARE = 0.4  # episodes to test on over those to train on
LEAST_EPISODES = 2  # of a part; one of them is held out


def record(world: World, scale: float, folder: Path) -> tuple[Path, Path]:
    """Record what is not yet there and return the data sets to train and to test on.

    Args:
        world: The world.
        scale: Of its number of episodes.
        folder: Where the files go.
    """
    return (
        _record(world, scale, folder / "train", TRAIN_SEED),
        _record(world, TEST_SHARE * scale, folder / "test", TEST_SEED),
    )


def _record(world: World, scale: float, folder: Path, seed: int) -> Path:
    """Record the parts of one data set; return the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(world.recordings):
        path = folder / f"part_{index}.hdf5"
        if not path.is_file():
            _collect(world, part, scale, path, seed + index * SEEDS_APART)
    mixture = folder / "mixture.json"
    files.write_json(mixture, {"format": FORMAT, "parts": [{"path": "part_*.hdf5"}]})
    return mixture


def _collect(world: World, part: Recording, scale: float, path: Path, seed: int) -> None:
    episodes = max(LEAST_EPISODES, round(scale * world.episodes * part.share))
    collect(
        world.env_id,
        part.policy,
        episodes,
        path,
        seed=seed,
        noise=part.noise,
        env_kwargs=world.env_kwargs,
    )
