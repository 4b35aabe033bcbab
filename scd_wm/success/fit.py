"""Train a classifier that tells success from a frame, and say how good it is on other episodes.

OUT/config.json         what it looks at, its sizes, and the data
OUT/model.safetensors   weights: with the above, what `load_success_classifier` reads
OUT/summary.json        scores on held-out episodes, beside the base rate

Axes: N frames with a known outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.measure import measure
from scd_wm.datasets.options import DataOptions
from scd_wm.evaluate_run import SUMMARY, check_out
from scd_wm.evaluation.judging import Judged, judge
from scd_wm.spec import Spec
from scd_wm.success.classifier import (
    BATCH,
    FORMAT,
    ClassifierConfig,
    SuccessClassifier,
    SuccessNetwork,
    network_inputs,
    save_success_classifier,
)
from scd_wm.success.training import ClassifierTraining, train_classifier
from scd_wm.training import files
from scd_wm.training.provenance import versions
from scd_wm.training.run_data import SPLIT_SEED, describe_data, layout_spec

MAX_SCORED = 50_000  # held-out frames that are scored, spread evenly


@dataclass(frozen=True)
class LabelledFrames:
    """The frames of a data set whose outcome is known and whose observation is stored."""

    dataset: RobotDataset
    episode: NDArray[np.int64]  # (N,) index of each frame's episode
    number: NDArray[np.int64]  # (N,) of the frame in its episode
    success: NDArray[np.bool_]  # (N,)

    def read(self, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return cameras (B, H, W, C) uint8 and vectors (B, D) of some of the frames."""
        places = list(zip(self.episode[chosen].tolist(), self.number[chosen].tolist(), strict=True))
        clips = self.dataset.clips(places, 1)
        return {name: values[:, 0] for name, values in {**clips.images, **clips.vectors}.items()}


@dataclass(frozen=True)
class Fitted:
    """What training came to."""

    summary: dict[str, Any]  # what summary.json holds
    held_out: Judged


def fit_success_classifier(
    data: str | Path,
    out: str | Path,
    *,
    options: DataOptions | None = None,
    sizes: ClassifierConfig | None = None,
    config: ClassifierTraining | None = None,
    held_out: float = 0.2,
) -> Fitted:
    """Train a success classifier on the frames of a data set.

    Args:
        data: Path of the data set.
        out: Folder to write.
        options: What to look at; None takes all cameras and vectors as they are.
        sizes: Of the network; None takes the defaults.
        config: How to train it; None takes the defaults.
        held_out: Share of the episodes that succeed, and of those that do not, kept for the scores.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is nothing at `data`.
        KeyError: If the data has no such camera or vector.
        ValueError: If the data does not tell success, or not both successes and failures in two
            episodes or more, or `held_out` is not between 0 and 1.
    """
    out, config = Path(out), ClassifierTraining() if config is None else config
    check_out(out, FORMAT)
    dataset = open_dataset(data, options)
    part, rest = split_by_success(dataset, held_out)
    dataset.prepare()
    network = new_network(part, ClassifierConfig() if sizes is None else sizes, config.seed)
    frames = labelled_frames(part)

    def read(chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        return network_inputs(frames.read(chosen), network.spec)

    train_classifier(network, frames.success, read, config)
    scores = score(SuccessClassifier(network), labelled_frames(rest), config.seed)
    summary = {
        "format": FORMAT,
        "out": str(out),
        "steps": config.steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_frames": len(frames.success),
        "train_successes": int(frames.success.sum()),
        "train_episodes": len(part.episodes),
        "held_out": scores.to_json(),
    }
    origin = {
        "training": asdict(config),
        "data": describe_data(data, dataset, part, rest),
        "versions": versions(),
    }
    with files.new_folder(out) as partial:
        save_success_classifier(network, partial, origin)
        files.write_json(partial / SUMMARY, summary)
    return Fitted(summary, scores)


def labelled_frames(dataset: RobotDataset) -> LabelledFrames:
    """List the frames whose success is known; that of step t is that of frame t + 1."""
    episodes, numbers, flags = [], [], []
    for index, episode in enumerate(dataset.episodes):
        success = dataset.arrays(index).outcome["success"][: episode.num_observations - 1]
        episodes.append(np.full(len(success), index, np.int64))
        numbers.append(np.arange(1, len(success) + 1, dtype=np.int64))
        flags.append(success > 0.5)
    return LabelledFrames(
        dataset, np.concatenate(episodes), np.concatenate(numbers), np.concatenate(flags)
    )


def split_by_success(dataset: RobotDataset, share: float) -> tuple[RobotDataset, RobotDataset]:
    """Divide episodes into those to train on and those held out; both have successes and failures.

    Raises:
        ValueError: If the data does not allow it, or the share is out of range.
    """
    path = dataset.info.path
    if not 0 < share < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {share}")
    if "success" not in dataset.outcomes:
        told = list(dataset.outcomes) or "no outcome"
        raise ValueError(f"{path} does not say what is a success, it has {told}; use other data")
    frames = labelled_frames(dataset)
    won = _winning_episodes(frames, path)
    held: set[int] = set()
    random = np.random.default_rng(SPLIT_SEED)
    for group in (won, np.setdiff1d(np.arange(len(dataset.episodes)), won)):
        count = min(max(1, round(share * len(group))), len(group) - 1)
        held |= {int(i) for i in random.permutation(group)[: max(count, 0)]}
    rest = [i for i in range(len(dataset.episodes)) if i not in held]
    for what, part in (("to train on", rest), ("held out", sorted(held))):
        flags = frames.success[np.isin(frames.episode, part)]
        if flags.all() or not flags.any():
            lacking = "failure" if flags.all() else "success"
            raise ValueError(
                f"of the {len(part)} episodes {what} of {path} none would have a {lacking}; give "
                f"more data or another held_out, got {share:g}"
            )
    return dataset.subset(rest), dataset.subset(sorted(held))


def _winning_episodes(frames: LabelledFrames, path: Path) -> NDArray[np.int64]:
    """Return the episodes with a success, having checked that enough have one, and a failure."""
    won = np.unique(frames.episode[frames.success])
    lost = np.unique(frames.episode[~frames.success])
    for what, found in (("successes", won), ("failures", lost)):
        if len(found) < 2:
            raise ValueError(
                f"frames that are {what} are in {len(found)} of the "
                f"{len(frames.dataset.episodes)} episodes of {path}; at least 2 are needed, one of "
                "them to hold out"
            )
    return won


def new_network(dataset: RobotDataset, sizes: ClassifierConfig, seed: int) -> SuccessNetwork:
    """Return an untrained network for a data set, with the statistics of its vectors."""
    moments = measure(dataset)
    vectors = {name: moments[name].vector_spec() for name in dataset.vectors}
    spec: Spec = replace(layout_spec(dataset), vectors=vectors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SuccessNetwork(spec, sizes)


def score(classifier: SuccessClassifier, frames: LabelledFrames, seed: int) -> Judged:
    """Judge frames and score what comes out; of very many, some that are spread evenly."""
    stride = -(-len(frames.success) // MAX_SCORED)
    chosen = np.arange(0, len(frames.success), stride)
    batches: Sequence[NDArray[np.int64]] = np.split(chosen, range(BATCH, len(chosen), BATCH))
    probability = np.concatenate([classifier(frames.read(batch)) for batch in batches])
    return judge(probability, frames.success[chosen], frames.episode[chosen], seed=seed)
