"""Trains a success classifier on few successes among many frames, and keeps it calibrated.

Axes: B frames, H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.progress import progress_bar
from scd_wm.success.classifier import SuccessNetwork

NOISE = 0.1  # largest deviation of noise added to images in [-1, 1]
SHOWN_EVERY = 20  # steps


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """How the classifier is trained.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    steps: int = 1500  # optimiser steps
    seed: int = 0  # of the initial weights, the choice of frames and what is done to images
    batch_size: int = 64  # frames B of a step, at least 2
    least_share: float = 0.25  # of successes, and of failures, in a batch, above 0, up to 0.5
    lr: float = 1e-3  # learning rate at first; falls to 0 along half a cosine
    weight_decay: float = 0.05
    degraded: float = 0.5  # share of images that are blurred and made noisy, as imagined ones are

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError(
                f"steps must be 1 or more and batch_size 2 or more, got {self.steps} and "
                f"{self.batch_size}"
            )
        if not 0 < self.least_share <= 0.5:
            raise ValueError(f"least_share must be above 0 and up to 0.5, got {self.least_share}")
        if not 0 <= self.degraded <= 1:
            raise ValueError(f"degraded must be from 0 to 1, got {self.degraded}")

    def num_successes(self, rate: float) -> int:
        """Return how many frames of a batch are successes, where `rate` of the data's are."""
        share = min(max(rate, self.least_share), 1 - self.least_share)
        return min(max(1, round(share * self.batch_size)), self.batch_size - 1)


def train_classifier(
    network: SuccessNetwork,
    success: NDArray[np.bool_],
    read: Callable[[NDArray[np.int64]], dict[str, Tensor]],
    config: ClassifierTraining,
) -> None:
    """Train a network in place.

    Successes are drawn more often than they occur. The log odds of the batch are those of the data
    plus a constant, which is added to the network's output in the loss and nowhere else, so that
    the output alone speaks of the data (King and Zeng 2001, "Logistic regression in rare events
    data", section 4.1).

    Args:
        network: Changed.
        success: Of each frame of the data; some are, and some are not.
        read: Gives the network's inputs for frames by their numbers.
        config: How.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    rate = float(success.mean())
    num_successes = config.num_successes(rate)
    shift = _log_odds(num_successes / config.batch_size) - _log_odds(rate)
    with torch.no_grad():
        output = network.head[-1]
        assert isinstance(output, torch.nn.Linear)
        output.bias.fill_(_log_odds(rate))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    happened = torch.from_numpy(np.arange(config.batch_size) < num_successes).float()
    with progress_bar(total=config.steps, unit="step", desc="success classifier") as bar:
        for step, chosen in enumerate(_batches(success, num_successes, config)):
            frames = degrade(read(chosen), network, config, step)
            loss = F.binary_cross_entropy_with_logits(network(frames) + shift, happened)
            torch.autograd.backward(loss)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss of step {step + 1} is {value}; look at the data"
                )
            for group in optimizer.param_groups:
                group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % SHOWN_EVERY == 0:
                bar.set_postfix_str(f"loss {value:.3f}", refresh=False)
            bar.update()


def degrade(
    frames: dict[str, Tensor], network: SuccessNetwork, config: ClassifierTraining, step: int
) -> dict[str, Tensor]:
    """Return frames some of whose images are blurred and noisy, by as much as chance says.

    Args:
        frames: Cameras (B, C, H, W) in [-1, 1], and vectors, which stay as they are.
        network: Whose cameras.
        config: Share of images, and seed.
        step: Decides, with the seed, all that is random.
    """
    random = torch.Generator().manual_seed(config.seed * 2**32 + step)
    changed = dict(frames)
    for name in network.spec.cameras:
        images = frames[name]
        shape = (len(images), 1, 1, 1)
        chosen = (torch.rand(shape, generator=random) < config.degraded).float()
        blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        weight = chosen * torch.rand(shape, generator=random)
        noise = torch.randn(images.shape, generator=random)
        deviation = NOISE * chosen * torch.rand(shape, generator=random)
        changed[name] = images + weight * (blurred - images) + deviation * noise
    return changed


def _batches(
    success: NDArray[np.bool_], num_successes: int, config: ClassifierTraining
) -> Iterator[NDArray[np.int64]]:
    """Yield the frames of each step: first successes, then failures, each drawn evenly."""
    won, lost = np.flatnonzero(success), np.flatnonzero(~success)
    for step in range(config.steps):
        random = np.random.default_rng((config.seed, step))
        yield np.concatenate(
            [
                random.choice(won, num_successes),
                random.choice(lost, config.batch_size - num_successes),
            ]
        )


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
