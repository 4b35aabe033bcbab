"""Write a store from a reader, in several processes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd

from scd_wm.convert.workers import Outcome, Task, Work, run_tasks
from scd_wm.datasets.episode_arrays import (
    Choice,
    bytes_of,
    episode_arrays,
    files_stamp,
    image_bytes,
    number_bytes,
    source_paths,
)
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.store import CHUNK_FRAMES, episode_file, is_store
from scd_wm.datasets.store_file import EpisodeFile
from scd_wm.datasets.store_reader import StoreReader, episode_to_json
from scd_wm.datasets.store_writer import StoreWriter, check_place
from scd_wm.progress import progress_bar

RESERVE = 1.1  # of the estimate


@dataclass(frozen=True)
class StoreJob:
    """One conversion into a store."""

    reader: Reader
    choice: Choice
    target: Path
    workers: int
    level: int  # of zstd; 0: not compressed
    verify: bool  # read back what is there and what is written

    def run(self, description: dict[str, Any]) -> dict[str, Any]:
        """Write all episodes that are not there, and the index; return a summary.

        Raises:
            ValueError: If there is too little room, or no episode can be read.
        """
        check_place(self.target, description)
        if not is_store(self.target):
            _check_room(self)
        writer = StoreWriter(self.target, description)
        try:
            outcomes = self._convert(writer)
        finally:
            writer.close()
        return self._summary(outcomes)

    def _convert(self, writer: StoreWriter) -> list[Outcome]:
        """Bring episodes and index up to date."""
        episodes = self.reader.info.episodes
        files = files_stamp(source_paths(self.reader))
        existing = {n: a for n, a in writer.existing().items() if n < len(episodes)}
        kept = [n for n, a in existing.items() if a["source"]["files"] == files and not self.verify]
        outcomes = [Outcome(number, "kept") for number in kept]
        if todo := sorted(set(range(len(episodes))).difference(kept)):
            writer.begin()
            task = Task(
                reader=self.reader,
                choice=self.choice,
                store=self.target,
                level=self.level,
                layout=writer.layout,
                files=files,
                verify=self.verify,
            )
            outcomes += self._run(task, [(n, existing.get(n)) for n in todo])
        entries = {}
        for number, status, _ in outcomes:
            if status in ("written", "changed"):
                entries[number] = episode_to_json(self.choice.episode(episodes[number]))
            elif number in existing:  # what was whole before its source was damaged stays
                entries[number] = existing[number]["episode"]
        if not entries:
            raise ValueError(
                f"no episode of {self.reader.info.path} can be read: {self._damaged(outcomes)[0]}"
            )
        writer.end(entries, self._damaged(outcomes))
        return outcomes

    def _run(self, task: Task, work: Sequence[Work]) -> list[Outcome]:
        """Convert episodes, showing progress in steps."""
        episodes = self.reader.info.episodes
        total = sum(episodes[number].num_actions for number, _ in work)
        outcomes = []
        with (
            closing(run_tasks(task, work, self.workers)) as running,
            progress_bar(total=total, desc=f"converting to {self.target}", unit="step") as bar,
        ):
            for outcome in running:
                outcomes.append(outcome)
                bar.update(episodes[outcome.number].num_actions)
        return outcomes

    def _damaged(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Return a line on each episode that could not be read."""
        episodes = self.reader.info.episodes
        return [
            f"{episodes[o.number].name}: {o.line}"
            for o in sorted(outcomes)
            if o.status == "damaged"
        ]

    def _summary(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        store, info = StoreReader(self.target), self.reader.info
        images = sum(image_bytes(info, info.episodes[n], self.choice) for n in store.numbers)
        count = Counter(outcome.status for outcome in outcomes)
        return {
            "format": "store",
            "episodes": len(store.info.episodes),
            "steps": sum(episode.num_actions for episode in store.info.episodes),
            **{status: count[status] for status in ("written", "changed", "kept", "damaged")},
            "kept_at_other_levels": self._other_levels(outcomes),
            "source_bytes": bytes_of(source_paths(self.reader)),
            "image_bytes": images,
            "target_bytes": bytes_of([self.target]),
            "damaged_episodes": self._damaged(outcomes),
        }

    def _other_levels(self, outcomes: Sequence[Outcome]) -> dict[int, int]:
        """Return how many of the episodes that stay are at which other levels of compression."""
        levels = Counter[int]()
        for outcome in outcomes:
            if outcome.status == "kept":
                with suppress(ValueError):  # damage is found where the episode is read or verified
                    file = EpisodeFile(episode_file(self.target, outcome.number))
                    levels[next(iter(file.arrays.values())).layout.level] += 1
        return {level: count for level, count in levels.items() if level != self.level}


def _check_room(job: StoreJob) -> None:
    """Raise ValueError if a store would not fit on its disk, by a sample of its images."""
    info, choice = job.reader.info, job.choice
    raw = packed = 0
    for number in {0, len(info.episodes) // 2, len(info.episodes) - 1}:
        with suppress(ValueError):  # a damaged episode is reported when its turn comes
            for key, _, batches in episode_arrays(job.reader, number, choice):
                if key in choice.cameras:
                    sample = np.ascontiguousarray(next(iter(batches))[:CHUNK_FRAMES])
                    raw, packed = (
                        raw + sample.nbytes,
                        packed + _size(sample, job.level),
                    )
    images = sum(image_bytes(info, episode, choice) for episode in info.episodes)
    needed = int(RESERVE * images * packed / max(raw, 1)) + number_bytes(info, choice)
    folder = next(p for p in (job.target, *job.target.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"a store of {info.path} takes about {needed / 1e9:.1f} GB, {folder} has "
            f"{free / 1e9:.1f} GB free; choose fewer cameras, a smaller image size or another disk"
        )


def _size(images: np.ndarray, level: int) -> int:
    """Return how many bytes images take in a store."""
    return len(zstd.compress(images, level)) if level else images.nbytes
