"""Make a store that claims far more than memory, and show that training reads it with flat memory.

usage: python scripts/large_store.py FOLDER [GIGABYTES]

One episode of noise is written and linked as often as it takes, so the disk holds it once; to the
reader every link is an episode of its own. Prints the resident memory while batches are loaded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from scd_wm.bench.resident import resident_mib
from scd_wm.convert.run import convert
from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.loader import ClipLoader
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.datasets.store import INDEX_FILE, episode_file, index_text

NUM_STEPS, SIDE = 500, 128  # of the episode; its images are 128 x 128
NUM_BATCHES, REPORTS = 1000, 10


def make(folder: Path, gigabytes: float) -> Path:
    """Write the store and return its path."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with RobomimicWriter(folder / "one.hdf5", {"env_name": "Noise", "type": 2}) as writer:
        images = rng.integers(0, 256, (NUM_STEPS + 1, SIDE, SIDE, 3), np.uint8)
        frames = {"image": images, "state": rng.normal(size=(NUM_STEPS + 1, 8))}
        flags = np.zeros(NUM_STEPS, bool)
        writer.add_episode(frames, rng.normal(size=(NUM_STEPS, 7)), flags, flags, flags)
    store = folder / "large"
    convert(folder / "one.hdf5", store)
    index = json.loads((store / INDEX_FILE).read_text())["content"]
    (entry,) = index["episodes"]
    count = int(gigabytes * 1e9 / images.nbytes) + 1
    for number in range(1, count):
        link = episode_file(store, number)
        if not link.exists():
            link.hardlink_to(episode_file(store, 0))
    index["episodes"] = [
        {**entry, "number": number, "episode": entry["episode"] | {"name": f"demo_{number}"}}
        for number in range(count)
    ]
    (store / INDEX_FILE).write_text(index_text(index))
    return store


def main() -> None:
    """Make the store and load batches from it."""
    folder, gigabytes = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 240.0
    dataset = open_dataset(make(folder, gigabytes))
    size = dataset.num_steps * SIDE * SIDE * 3 / 1e9
    print(f"{len(dataset.episodes)} episodes, {dataset.num_steps} steps, {size:.0f} GB of images")
    loader, start = ClipLoader(dataset, num_frames=8, batch_size=16, seed=0), time.perf_counter()
    for step in range(NUM_BATCHES):
        loader.batch(step)
        if (step + 1) % (NUM_BATCHES // REPORTS) == 0:
            rate = 16 * (step + 1) / (time.perf_counter() - start)
            print(f"batch {step + 1}: {resident_mib():.0f} MiB resident, {rate:.0f} clips/s")


if __name__ == "__main__":
    main()
