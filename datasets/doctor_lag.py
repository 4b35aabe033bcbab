"""How many steps lie between a cause and its effect, both recorded.

Axes: M steps at which an effect is measured, D values of the effect, U of the cause, B of the
baseline, L lags.

For every lag the effect at step m is predicted by ridge regression from the cause at step m - lag
and from a baseline, the recent past of the effect itself. The baseline matters: motion is smooth,
so that without it an action of three steps ago predicts nearly as well as that of now, through the
motion that it began. Gain is the share of the squared error of the baseline alone that the cause
takes away, on parts of the data that the regression did not see (Granger 1969, cross-validated).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

LAGS = tuple(range(-5, 11))
MIN_BLOCKS, FOLDS, DRAWS = 10, 5, 300  # parts of the data, held out in turn, drawn for intervals
RIDGE = 1e-4  # of the baseline's weights, in numbers of steps, on standardised values
CAUSE_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the cause's weights; the best is taken
MIN_STEPS_A_VALUE = 8  # steps for every regressor
MIN_GAIN, MIN_MARGIN = 0.03, 0.02  # a cause is seen; a lag is better than another


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Cause and effect of one episode; row t of each belongs to step t."""

    cause: np.ndarray  # (T, U)
    effect: np.ndarray  # (M, D), M at most T + 1
    baseline: np.ndarray  # (M, B)


@dataclass(frozen=True, kw_only=True)
class LagCurve:
    """How well a cause explains an effect so many steps later."""

    cause: str
    effect: str
    lags: list[int]  # above 0: the effect comes late
    gain: list[float]  # at each lag
    best: int  # lag of the largest gain
    best_low: int  # 95 % interval of it, over parts of the data
    best_high: int
    margin: float  # gain at the best lag over that at 0
    margin_low: float  # lower end of its 95 % interval
    num_steps: int

    @property
    def is_seen(self) -> bool:
        """Whether the cause explains the effect at any lag."""
        return max(self.gain) >= MIN_GAIN

    @property
    def is_shifted(self) -> bool:
        """Whether another lag is clearly better than 0."""
        clear = self.margin >= MIN_MARGIN and self.margin_low > 0
        return self.is_seen and self.best != 0 and clear

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON types."""
        return asdict(self) | {"is_seen": self.is_seen, "is_shifted": self.is_shifted}


def lag_curve(cause: str, effect: str, traces: Sequence[Trace]) -> LagCurve | None:
    """Measure at which lag a cause explains an effect; None if there are too few steps.

    Args:
        cause: Name of the cause.
        effect: Name of the effect.
        traces: One for each episode. Those too short for all lags are left out.
    """
    traces = [trace for trace in traces if _last(trace) - LAGS[-1] >= 4]
    if not traces:
        return None
    num_steps = sum(_last(trace) - LAGS[-1] for trace in traces)
    blocks = _blocks(traces)
    width = sum(getattr(traces[0], part).shape[1] for part in ("cause", "baseline")) + 1
    if num_steps < MIN_STEPS_A_VALUE * width or len(blocks) < FOLDS:
        return None
    alone = _errors(traces, blocks, None)
    errors = np.stack([_errors(traces, blocks, lag) for lag in LAGS])  # (L, blocks)
    return _curve(cause, effect, alone, errors, num_steps)


def _curve(
    cause: str, effect: str, alone: np.ndarray, errors: np.ndarray, num_steps: int
) -> LagCurve:
    """Turn squared errors of blocks, (blocks,) and (L, blocks), into gains with intervals."""
    total = max(float(alone.sum()), 1e-300)
    gain = 1 - errors.sum(axis=1) / total
    best, zero = int(gain.argmax()), LAGS.index(0)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(alone), (DRAWS, len(alone)))
    drawn = 1 - errors[:, draws].sum(axis=2) / alone[draws].sum(axis=1).clip(1e-300)  # (L, draws)
    low, high = np.quantile(np.array(LAGS)[drawn.argmax(axis=0)], (0.025, 0.975), method="nearest")
    return LagCurve(
        cause=cause,
        effect=effect,
        lags=list(LAGS),
        gain=gain.tolist(),
        best=LAGS[best],
        best_low=int(low),
        best_high=int(high),
        margin=float(gain[best] - gain[zero]),
        margin_low=float(np.quantile(drawn[best] - drawn[zero], 0.025)),
        num_steps=num_steps,
    )


def _last(trace: Trace) -> int:
    """Return one past the last step whose effect has a cause at every lag."""
    return min(len(trace.effect), len(trace.cause) + LAGS[0])


def _blocks(traces: Sequence[Trace]) -> list[tuple[int, int, int]]:
    """Return parts of the data, (trace, first step, last step + 1): episodes or pieces of them."""
    pieces = max(1, -(-MIN_BLOCKS // len(traces)))
    blocks = []
    for index, trace in enumerate(traces):
        edges = np.linspace(LAGS[-1], _last(trace), pieces + 1).round().astype(int)
        blocks += [(index, a, b) for a, b in pairwise(edges.tolist()) if b > a]
    return blocks


def _errors(
    traces: Sequence[Trace], blocks: Sequence[tuple[int, int, int]], lag: int | None
) -> np.ndarray:
    """Return the squared error of each block, (blocks,), predicted from the other folds.

    Args:
        traces: Episodes.
        blocks: Parts of them.
        lag: Of the cause; None for the baseline alone.
    """
    rows = [_rows(traces[index], first, stop, lag) for index, first, stop in blocks]
    rows_x = _standardised([x for x, _ in rows], with_ones=True)
    rows_y = _standardised([y for _, y in rows], with_ones=False)
    num_causes = 0 if lag is None else traces[0].cause.shape[1]
    is_cause = np.arange(rows_x[0].shape[1]) < num_causes
    tried = [
        _held_out_errors(rows_x, rows_y, np.where(is_cause, strength, RIDGE))
        for strength in (CAUSE_RIDGES if num_causes else (RIDGE,))
    ]
    return min(tried, key=lambda errors: float(errors.sum()))


def _held_out_errors(
    rows_x: Sequence[np.ndarray], rows_y: Sequence[np.ndarray], penalty: np.ndarray
) -> np.ndarray:
    """Return the squared error of each block, (blocks,), by ridge regression on other folds.

    Args:
        rows_x: Regressors of each block, (M, R).
        rows_y: Effects of each block, (M, D).
        penalty: Of each regressor's weight, for one step, (R,).
    """
    grams = np.stack([x.T @ x for x in rows_x])
    cross = np.stack([x.T @ y for x, y in zip(rows_x, rows_y, strict=True)])
    counts = np.array([len(x) for x in rows_x])
    fold = np.arange(len(rows_x)) % FOLDS
    errors = np.zeros(len(rows_x))
    for held_out in range(FOLDS):
        seen = fold != held_out
        gram = grams[seen].sum(axis=0) + np.diag(penalty * counts[seen].sum())
        weights = np.linalg.solve(gram, cross[seen].sum(axis=0))
        for block in np.flatnonzero(~seen).tolist():
            errors[block] = ((rows_y[block] - rows_x[block] @ weights) ** 2).sum()
    return errors


def _rows(trace: Trace, first: int, stop: int, lag: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return regressors and effects of the steps of a block."""
    regressors = trace.baseline[first:stop]
    if lag is not None:
        regressors = np.concatenate([trace.cause[first - lag : stop - lag], regressors], axis=1)
    return regressors, trace.effect[first:stop]


def _standardised(parts: Sequence[np.ndarray], *, with_ones: bool) -> list[np.ndarray]:
    """Return rows with mean 0 and deviation 1 over all parts, and a column of ones if wanted."""
    every = np.concatenate(parts).astype(np.float64)
    mean, std = every.mean(axis=0), every.std(axis=0)
    scaled = [(part - mean) / np.where(std > 1e-9, std, 1.0) for part in parts]
    ones = ((0, 0), (0, 1))
    return [np.pad(x, ones, constant_values=1.0) for x in scaled] if with_ones else scaled
