"""What a rollout carries from one frame to the next, and how it branches.

Axes: B batch (one rollout a row), N tokens of a frame, M values of a packed frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.model import noise
from scd_wm.model.cache import RingCache


@dataclass
class RolloutState:
    """Everything that a rollout carries from one frame to the next; `step` changes it."""

    cache: RingCache  # frames before the last one
    last: Tensor  # (B, M) the last frame, packed; its action is still to be chosen
    valid: Tensor  # (B, N) bool, which of its tokens hold data
    keys: Tensor  # (B,) int64 noise keys, one a row
    num_imagined: Tensor  # (B,) int64 frames imagined so far by each row

    def clone(self) -> RolloutState:
        """Return a copy that shares nothing that changes: a snapshot to come back to."""
        return RolloutState(self.cache.clone(), *(x.clone() for x in self._rows()))

    def fork(
        self, branches: int, horizon: int | None = None, *, common_noise: bool = False
    ) -> RolloutState:
        """Return a state in which each row goes on as `branches` rows, one after the other.

        Row i of the result is a branch of row i // branches. The frames so far are kept once for
        all branches of a row, so memory is that of one history and of what the branches add.

        Args:
            branches: Of each row, at least 1.
            horizon: Frames to make room for at first, such as a planner's horizon; None for a whole
                window. Branches may go further.
            common_noise: Give all branches of a row the noise that the row itself would have, so
                that only their actions differ; otherwise each branch has noise of its own.

        Raises:
            ValueError: If `branches` is below 1.
        """
        if branches < 1:
            raise ValueError(f"branches must be at least 1, got {branches}")
        last, valid, keys, count = (x.repeat_interleave(branches, 0) for x in self._rows())
        if not common_noise:
            own = torch.arange(branches, device=keys.device).repeat(len(self.last))
            keys = noise.derive(keys, own)
        return RolloutState(self.cache.fork(branches, horizon), last, valid, keys, count)

    def select(self, rows: Sequence[int] | Tensor) -> RolloutState:
        """Return a state of some rows, in the order asked for; rows may repeat.

        Raises:
            IndexError: If there is no such row.
        """
        index = _row_numbers(rows, len(self.last))
        return RolloutState(self.cache.select(index), *(x[index] for x in self._rows()))

    def replace_rows(self, rows: Sequence[int] | Tensor, other: RolloutState) -> RolloutState:
        """Return a state whose `rows` are those of `other`, such as a new beginning.

        The other rows go on as if nothing had happened.

        Raises:
            IndexError: If there is no such row.
            ValueError: If `other` has another number of rows.
        """
        index = _row_numbers(rows, len(self.last))
        if len(index) != len(other.last):
            raise ValueError(f"{len(index)} rows to replace, but other has {len(other.last)}")
        at = torch.tensor(index, device=self.last.device)
        pairs = zip(self._rows(), other._rows(), strict=True)
        tensors = (mine.index_copy(0, at, theirs) for mine, theirs in pairs)
        return RolloutState(self.cache.put(index, other.cache), *tensors)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.last, self.valid, self.keys, self.num_imagined


def _row_numbers(rows: Sequence[int] | Tensor, batch: int) -> list[int]:
    """Return the row numbers as a list.

    Raises:
        IndexError: If one is outside the batch.
    """
    numbers = [int(row) for row in rows]
    for number in numbers:
        if not 0 <= number < batch:
            raise IndexError(f"no row {number}; the state has rows 0 to {batch - 1}")
    return numbers
