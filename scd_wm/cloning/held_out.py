"""The loss of a policy on episodes that it is not trained on.

It is reported and chooses nothing: what a policy is trained for is not what it is judged by, so the
checkpoint of the least held-out loss may be a poor one (Mandlekar et al. 2021, arXiv:2108.03298, on
stopping criteria), and robomimic does not choose by it unless told to. `scd-wm rollout` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

MEASURED = 10  # times in training, and once at its end
SEQUENCES = 1000  # at most, spread over the episodes, the same each time


class HeldOut:
    """Sequences of held-out episodes, and the losses on them so far.

    Args:
        items: A `SequenceDataset` of robomimic; None if nothing is held out.
        batch_size: Sequences at once.
    """

    def __init__(self, items: Any | None, batch_size: int) -> None:
        self.losses: list[tuple[int, float]] = []  # steps done and loss, in order
        self._batches: DataLoader | None = None
        if items is not None:
            chosen = np.unique(np.linspace(0, len(items) - 1, SEQUENCES).round().astype(int))
            some = Subset(items, chosen.tolist())
            # A generator of its own, so that training draws the same with and without.
            self._batches = DataLoader(some, batch_size, generator=torch.Generator())

    def is_due(self, progress: float) -> bool:
        """Return whether to measure, with this much of the training done, from 0 to 1."""
        return self._batches is not None and progress >= len(self.losses) / MEASURED

    def measure(self, algo: Any, step: int, inputs: Callable[[dict[str, Any]], Any]) -> None:
        """Add the mean loss after so many steps.

        Args:
            algo: Robomimic's algorithm; is left in training mode.
            step: Steps done.
            inputs: Makes of a batch what the algorithm takes.
        """
        assert self._batches is not None, "nothing is held out"
        total = count = 0.0
        with _as_judged(algo):
            for batch in self._batches:
                info = algo.train_on_batch(inputs(batch), epoch=1, validate=True)
                total += len(batch["actions"]) * float(algo.log_info(info)["Loss"])
                count += len(batch["actions"])
        self.losses.append((step, total / count))

    def summary(self) -> Mapping[str, Any]:
        """Return what train-policy says of it; nothing if nothing is held out."""
        if not self.losses:
            return {}
        step, least = min(self.losses, key=lambda pair: pair[1])
        return {
            "held_out_loss": self.losses[-1][1],
            "least_held_out_loss": least,
            "step_of_least_held_out_loss": step,
            "held_out_losses": self.losses,
        }


@contextmanager
def _as_judged(algo: Any) -> Iterator[None]:
    """Put networks into evaluation mode, mixtures with the widths that they have learnt.

    Robomimic's act with widths next to none in that mode, at which no action is likely.
    """
    policy = algo.nets["policy"]
    acts_narrowly = getattr(policy, "low_noise_eval", None)
    algo.set_eval()
    if acts_narrowly is not None:
        policy.low_noise_eval = False
    try:
        yield
    finally:
        if acts_narrowly is not None:
            policy.low_noise_eval = acts_narrowly
        algo.set_train()
