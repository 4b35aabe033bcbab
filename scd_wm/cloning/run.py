"""`scd-wm train-policy`: behaviour cloning by robomimic, on any data set.

Networks, losses, batches and the checkpoint are robomimic's; the loop is ours, as robomimic's own
asks questions, replaces `sys.stdout` and counts in epochs. A robomimic file is read as it is; of
any other data, or where images are resized or frames skipped, one is written aside first.

Axes: B sequences of a batch, T steps of a sequence, D values of a vector, A values of an action.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from scd_wm.cloning.config import PolicyConfig, robomimic_config
from scd_wm.cloning.data import file_of, in_memory, sequence_bytes, vector_stats
from scd_wm.cloning.held_out import HeldOut
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.options import DataOptions
from scd_wm.evaluate_run import default_device
from scd_wm.progress import progress_bar
from scd_wm.robomimic_setup import ObsRegistry, load_robomimic, quiet
from scd_wm.training import files
from scd_wm.training.run_data import split_data

MODULES = (
    "robomimic.algo",
    "robomimic.config",
    "robomimic.utils.dataset",
    "robomimic.utils.file_utils",
    "robomimic.utils.train_utils",
)
SEQUENCE_BYTES = 2**30  # up to which all sequences are cut before training
SHOWN_EVERY_S = 0.5  # the loss in the progress bar
LOSS_STEPS = 50  # over which the loss of the summary is averaged
Split = tuple[list[str], list[str]]  # episodes to train on and held out


def train_policy(
    data: str | Path,
    out: str | Path,
    config: PolicyConfig | None = None,
    *,
    options: DataOptions | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a policy on recorded episodes and write a checkpoint of robomimic.

    Args:
        data: A data set of any format that `open_dataset` opens.
        out: The checkpoint to write, whole or not at all; usually ends in .pth.
        config: What to train; None takes the defaults.
        options: What to use of the data; None is every camera, vector and episode.
        device: Where to train; None is a CUDA device if there is one.
        overwrite: Replace a checkpoint that exists.

    Returns:
        A summary in JSON types.

    Raises:
        FileExistsError: If `out` exists and `overwrite` is False.
        FileNotFoundError: If there is no `data`.
        FloatingPointError: If the loss is not finite.
        ModuleNotFoundError: If robomimic is not installed.
        ValueError: If there are too few episodes, or actions are not within -1 and 1.
    """
    out, config = Path(out), PolicyConfig() if config is None else config
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another path or overwrite it (--overwrite)")
    load_robomimic(*MODULES)
    dataset = _chosen(open_dataset(data, options), config)
    _check_actions(dataset)
    _check_crop(dataset, config.crop)
    out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        aside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scd_wm_")))
        file, demos = file_of(dataset, aside)
        demos, unseen = _split(dataset, config.held_out, demos)
        settings = robomimic_config(config, dataset, data)
        stack.enter_context(ObsRegistry.of(settings).active())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(config.seed)
        learner = _Learner(settings, config, file, (demos, unseen), device or default_device())
        losses, seconds = learner.run()
        learner.save(out)
    return {
        "path": str(out),
        "size_mb": round(out.stat().st_size / 1e6, 3),
        "data": str(data),
        "algo": config.algo + ("-gmm" if config.gmm else ""),
        "observations": ", ".join(settings.all_obs_keys),
        "episodes": len(demos),
        "held_out_episodes": len(unseen),
        "sequences": len(learner.items),
        "parameters": sum(p.numel() for p in learner.algo.nets.parameters()),
        "steps": len(losses),
        "epochs": round(len(losses) * learner.batch_size / len(learner.items), 1),
        "seconds": round(seconds, 1),
        "steps_per_second": round(len(losses) / max(seconds, 1e-9), 2),
        "first_loss": float(np.mean(losses[:LOSS_STEPS])),
        "last_loss": float(np.mean(losses[-LOSS_STEPS:])),
        **learner.held_out.summary(),
        "config": asdict(config),
    }


def _chosen(dataset: RobotDataset, config: PolicyConfig) -> RobotDataset:
    """Return the first `config.episodes` episodes.

    Raises:
        ValueError: If there are fewer.
    """
    if config.episodes is None:
        return dataset
    if config.episodes > len(dataset.episodes):
        raise ValueError(
            f"{dataset.info.path} has {len(dataset.episodes)} episodes to choose from, "
            f"asked for are {config.episodes}"
        )
    return dataset.subset(range(config.episodes))


def _split(dataset: RobotDataset, held_out: float, demos: list[str]) -> Split:
    """Return the episodes to train on and those held out, by their names in robomimic's file."""
    parts = split_data(dataset, held_out)
    names = dict(zip(dataset.indices, demos, strict=True))
    trained, unseen = ([names[i] for i in part.indices] if part else [] for part in parts)
    return trained, unseen


def _check_actions(dataset: RobotDataset) -> None:
    """Raise ValueError if robomimic's networks, which end in tanh, cannot give the actions."""
    largest = max(np.abs(dataset.arrays(i).actions).max() for i in range(len(dataset.episodes)))
    if not largest <= 1 + 1e-4:  # true for NaN too
        raise ValueError(
            f"actions of {dataset.info.path} reach {largest:.3g}; robomimic's policies act between "
            "-1 and 1: scale the actions of the data first"
        )


def _check_crop(dataset: RobotDataset, crop: int | None) -> None:
    sizes = [side for name in dataset.cameras for side in dataset.image_sizes[name]]
    if crop is not None and sizes and crop >= min(sizes):
        raise ValueError(
            f"random crops must be smaller than the images, whose least side is {min(sizes)}, got "
            f"{crop}"
        )


def _batches(items: Any, batch_size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield batches of sequences without end, each sequence once before any comes again.

    Where all sequences fit they are cut once, as cutting them takes longer than a step of an MLP.
    """
    random = torch.Generator().manual_seed(seed)
    if sequence_bytes(items) <= SEQUENCE_BYTES:
        whole = default_collate([items[index] for index in range(len(items))])
        while True:
            order = torch.randperm(len(items), generator=random)
            for chosen in torch.split(order, batch_size):
                if len(chosen) == batch_size:
                    obs = {key: values[chosen] for key, values in whole["obs"].items()}
                    yield {"obs": obs, "actions": whole["actions"][chosen]}
    loader: DataLoader = DataLoader(
        items, batch_size, shuffle=True, drop_last=True, generator=random
    )
    while True:
        yield from loader


class _Learner:
    """Robomimic's algorithm, its data, and the loop that brings them together.

    Args:
        settings: Robomimic's configuration.
        config: Ours.
        file: A robomimic file.
        demos: Names of the episodes to train on, and of those to measure the loss on besides.
        device: Where to train.
    """

    def __init__(
        self, settings: Any, config: PolicyConfig, file: Path, demos: Split, device: str
    ) -> None:
        from robomimic.algo import algo_factory
        from robomimic.utils import file_utils

        self.settings, self.config = settings, config
        keys = settings.all_obs_keys
        with quiet():
            self.env_meta = file_utils.get_env_metadata_from_dataset(dataset_path=str(file))
            self.shape_meta = file_utils.get_shape_metadata_from_dataset(
                dataset_path=str(file), all_obs_keys=keys
            )
            self.items = in_memory(settings, file, demos[0])
            unseen = in_memory(settings, file, demos[1]) if demos[1] else None
            self.algo = algo_factory(
                algo_name=settings.algo_name,
                config=settings,
                obs_key_shapes=self.shape_meta["all_shapes"],
                ac_dim=self.shape_meta["ac_dim"],
                device=torch.device(device),
            )
        self.stats = None
        if settings.train.hdf5_normalize_obs:
            self.stats = vector_stats(self.items, self.shape_meta["all_shapes"])
        self.batch_size = min(config.batch_size, len(self.items))
        self.held_out = HeldOut(unseen, self.batch_size)
        self.num_steps = config.num_steps(len(self.items) // self.batch_size)

    def run(self) -> tuple[list[float], float]:
        """Train; return the loss of each step, and the seconds it took."""
        self.algo.set_train()
        losses: list[float] = []
        started, shown = time.monotonic(), 0.0
        batches = _batches(self.items, self.batch_size, self.config.seed)
        with progress_bar(total=self.num_steps, unit="step", desc=self.config.algo) as bar:
            while (
                progress := self._progress(len(losses), time.monotonic() - started)
            ) < 1 or not losses:
                if self.held_out.is_due(progress):
                    self.held_out.measure(self.algo, len(losses), self._inputs)
                losses.append(self._step(next(batches), progress, len(losses)))
                if time.monotonic() - shown > SHOWN_EVERY_S:
                    shown = time.monotonic()
                    bar.set_postfix_str(f"loss {losses[-1]:.4g}", refresh=False)
                bar.update()
        if self.held_out.losses:
            self.held_out.measure(self.algo, len(losses), self._inputs)
        self.algo.set_eval()
        return losses, time.monotonic() - started

    def save(self, out: Path) -> None:
        """Write the checkpoint, as robomimic does, whole or not at all."""
        from robomimic.utils import train_utils

        partial = files.temporary(out)
        try:
            with quiet():
                train_utils.save_model(
                    self.algo,
                    self.settings,
                    env_meta=self.env_meta,
                    shape_meta=self.shape_meta,
                    ckpt_path=str(partial),
                    obs_normalization_stats=self.stats,
                )
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)

    def _progress(self, num_steps: int, seconds: float) -> float:
        """Return how much of the training is done, from 0; at 1 it is over."""
        if self.config.minutes is not None:
            return seconds / (60 * self.config.minutes)
        assert self.num_steps is not None, "of all without a limit of time"
        return num_steps / self.num_steps

    def _step(self, batch: dict[str, Any], progress: float, step: int) -> float:
        """Learn from a batch; return the loss.

        Raises:
            FloatingPointError: If it is not finite.
        """
        for optimizer in self.algo.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 - progress)
        info = self.algo.train_on_batch(self._inputs(batch), epoch=1)
        loss = float(self.algo.log_info(info)["Loss"])
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss of step {step + 1} is {loss}")
        return loss

    def _inputs(self, batch: dict[str, Any]) -> Any:
        """Return what robomimic's algorithm takes, of a batch."""
        seen = batch | {"obs": self._normalised(batch["obs"])}
        inputs = self.algo.process_batch_for_training(seen)
        return self.algo.postprocess_batch_for_training(inputs, obs_normalization_stats=None)

    def _normalised(self, observations: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return observations with their vectors normalised, (B, T, D).

        Robomimic 0.3's own way to normalise stops at a check of shapes for more than one sequence.
        """
        seen = dict(observations)
        for name, values in (self.stats or {}).items():
            if values["mean"].ndim == 2:  # images keep their range
                seen[name] = (seen[name] - values["mean"]) / values["std"]
        return seen
