"""What the episodes of an evaluation come to.

Axes: P policies, E starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.ranking import (
    Pair,
    compare_rankings,
    estimate_text,
    is_above_0,
    success_pairs,
)
from scd_wm.evaluation.rates import episodes_needed, wilson_interval
from scd_wm.evaluation.result import WORLD_MODEL
from scd_wm.evaluation.success_calibration import calibration
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.episode import IMAGINED, REAL, Episode

Array = NDArray[np.float64]

LEVEL = 0.05  # p-values below it are called significant
HALF_WIDTHS = (0.1, 0.05, 0.025)  # of intervals, for which episodes are counted
CLOSE = 0.8  # rank correlation from which two orders are called much the same
FEW = 0.1  # share of pairs that clearly differ which may be wrong in such an order
STATISTICS = {"pearson": "Pearson", "spearman": "Spearman", "mmrv": "MMRV"}  # name: how it is said
CORRELATIONS = {k: STATISTICS[k] for k in ("pearson", "spearman")}  # MMRV is in units of the reward


@dataclass(frozen=True, kw_only=True)
class Results:
    """All episodes as tables."""

    policies: Sequence[str]
    starts: Sequence[str]
    episodes: Mapping[tuple[str, str], Sequence[Episode]]  # of world and policy, in order of starts
    config: PolicyEvaluationConfig

    @classmethod
    def of(
        cls,
        episodes: Sequence[Episode],
        policies: Sequence[str],
        starts: Sequence[str],
        config: PolicyEvaluationConfig,
    ) -> Results:
        """Sort episodes into tables."""
        place = {start: index for index, start in enumerate(starts)}
        found: dict[tuple[str, str], list[Episode]] = {}
        for episode in episodes:
            found.setdefault((episode.world, episode.policy), []).append(episode)
        for rows in found.values():
            rows.sort(key=lambda e: place[e.start])
        return cls(policies=policies, starts=starts, episodes=found, config=config)

    def in_order(self) -> list[Episode]:
        """Return all episodes: those of a policy together, and of it those of a world."""
        worlds = (REAL, *IMAGINED)
        return [e for p in self.policies for world in worlds for e in self.episodes[world, p]]

    def values(self, world: str, name: str) -> Array:
        """Return an attribute of every episode, (P, E); NaN where it is None."""
        rows = [[getattr(e, name) for e in self.episodes[world, p]] for p in self.policies]
        return np.array(rows, dtype=np.float64)

    @property
    def is_on_data(self) -> NDArray[np.bool_] | None:
        """Where imagination stayed near its data, (P, E); None if the model does not know it."""
        uncertainty = self.values(WORLD_MODEL, "uncertainty")
        return None if np.isnan(uncertainty).all() else uncertainty <= self.config.off_data

    def to_json(self) -> dict[str, Any]:
        """Return everything that follows from the episodes, in JSON types."""
        pairs = self._pairs()
        return {
            "policies": {p: self._policy(p) for p in self.policies},
            "ranking": self._rankings(),
            "pairs": [self._pair(pair) for pair in pairs],
            "rank_flips": _count_flips(pairs),
            "calibration": self._calibration(),
            "off_data": self._off_data(),
            "judge": self._judge(),
        }

    def _policy(self, policy: str) -> dict[str, Any]:
        worlds = {w: self._sum_up(self.episodes[w, policy]) for w in (REAL, *IMAGINED)}
        pairs = list(zip(*(self.episodes[w, policy] for w in (REAL, WORLD_MODEL)), strict=True))
        rate = worlds[REAL]["success_rate"]
        return {
            **worlds,
            "same_outcome": sum(a.success == b.success for a, b in pairs),
            "episodes_needed": {str(h): episodes_needed(rate, h) for h in HALF_WIDTHS},
        }

    def _sum_up(self, episodes: Sequence[Episode]) -> dict[str, Any]:
        won, steps = sum(e.success for e in episodes), [e.num_steps for e in episodes]
        returns = np.array([e.total_reward for e in episodes], dtype=np.float64)
        interval = None
        if not np.isnan(returns).any():
            found = bootstrap_mean(returns[:, None], self.starts, seed=self.config.seed)
            interval = [float(x[0]) for x in (found.low, found.high)]
        return {
            "success": won,
            "episodes": len(episodes),
            "success_rate": won / len(episodes),
            "success_interval": list(wilson_interval(won, len(episodes))),
            "mean_return": float(returns.mean()) if interval else None,
            "return_interval": interval,
            "mean_steps": float(np.mean([s for s in steps if s is not None]))
            if any(steps)
            else None,
        }

    def _rankings(self) -> dict[str, Any]:
        """Return the statistics of each measure of a policy, for every imagined world."""
        everything = np.ones((len(self.policies), len(self.starts)), bool)
        success, reward = (self.values(REAL, name) for name in ("success", "total_reward"))
        found: dict[str, Any] = {
            "success": {
                w: self._compare(success, self.values(w, "success"), everything) for w in IMAGINED
            }
        }
        if not np.isnan(reward).any():
            found["return"] = {
                w: self._compare(reward, self.values(w, "total_reward"), everything)
                for w in IMAGINED
            }
        judged = self.values(WORLD_MODEL, "judged")
        if not np.isnan(judged).any():
            found["success by judge"] = {
                w: self._compare(success, self.values(w, "is_judged_success"), everything)
                for w in IMAGINED
            }
        if (counted := self.is_on_data) is not None and not counted.all():
            rest = counted.any(axis=1)
            imagined = self.values(WORLD_MODEL, "success")
            found["success on data"] = {
                WORLD_MODEL: self._compare(success[rest], imagined[rest], counted[rest])
            }
        return found

    def _compare(
        self, real: Array, imagined: Array, counted: NDArray[np.bool_]
    ) -> dict[str, Any] | None:
        """Return the statistics in JSON types; None where fewer than two policies are left."""
        if len(real) < 2:
            return None
        seed, resamples = self.config.seed, self.config.resamples
        found = compare_rankings(real, imagined, counted, seed=seed, num_resamples=resamples)
        return {name: estimate.to_json() for name, estimate in found.items()}

    def _pairs(self) -> list[Pair]:
        real, imagined = (self.values(w, "success") for w in (REAL, WORLD_MODEL))
        return success_pairs(real, imagined, np.ones(real.shape, bool))

    def _pair(self, pair: Pair) -> dict[str, Any]:
        return {
            "first": self.policies[pair.first],
            "second": self.policies[pair.second],
            "real_difference": pair.real,
            "imagined_difference": pair.imagined,
            "real_p": pair.real_p,
            "imagined_p": pair.imagined_p,
            "is_significant": pair.real_p < LEVEL,
            "is_flipped": pair.is_flipped,
            "is_tied": pair.is_tied,
        }

    def _calibration(self) -> dict[str, Any] | None:
        predicted = self.values(WORLD_MODEL, "success_probability")
        if np.isnan(predicted).any():
            return None
        success = self.values(REAL, "success").astype(bool)
        starts = np.broadcast_to(np.array(self.starts), success.shape)
        seed = self.config.seed
        return calibration(predicted.ravel(), success.ravel(), starts.ravel(), seed=seed)

    def _off_data(self) -> dict[str, Any] | None:
        """Return how many imagined episodes left the data, and what comes of the others."""
        counted = self.is_on_data
        if counted is None:
            return None
        rows = {}
        for policy, kept in zip(self.policies, counted, strict=True):
            worlds = {}
            for world in (REAL, WORLD_MODEL):
                left = [e for e, k in zip(self.episodes[world, policy], kept, strict=True) if k]
                won = sum(e.success for e in left)
                worlds[world] = {"success": won, "episodes": len(left)}
            rows[policy] = {"flagged": int((~kept).sum()), "rest": worlds}
        return {
            "limit": self.config.off_data,
            "frames_in_a_row": self.config.off_data_frames,
            "flagged": int((~counted).sum()),
            "episodes": counted.size,
            "policies": rows,
        }

    def _judge(self) -> dict[str, Any] | None:
        """Return how often predicted outcome and judge agree."""
        rows = {}
        for policy in self.policies:
            episodes = self.episodes[WORLD_MODEL, policy]
            if any(e.judged is None for e in episodes):
                return None
            both = [(e.success, e.is_judged_success) for e in episodes]
            rows[policy] = {
                "both": both.count((True, True)),
                "outcome_only": both.count((True, False)),
                "judge_only": both.count((False, True)),
                "neither": both.count((False, False)),
            }
        agree = sum(row["both"] + row["neither"] for row in rows.values())
        return {"agree": agree, "episodes": len(rows) * len(self.starts), "policies": rows}


def _count_flips(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return how many pairs are in another order, and how many of those that really differ."""
    significant = [p for p in pairs if p.real_p < LEVEL]
    return {
        "pairs": len(pairs),
        "flipped": sum(p.is_flipped for p in pairs),
        "tied": sum(p.is_tied for p in pairs),
        "significant_pairs": len(significant),
        "significant_flipped": sum(p.is_flipped for p in significant),
        "significant_tied": sum(p.is_tied for p in significant),
    }


def verdict(found: Mapping[str, Any]) -> str:
    """Say whether imagination ranks policies as reality does, by success and by return.

    Args:
        found: From `Results.to_json`.
    """
    own, shuffled = (found["ranking"]["success"][w] for w in IMAGINED[:2])
    flips, policies = found["rank_flips"], f"these {len(found['policies'])} policies"
    rank, is_claimed = own["spearman"]["value"], is_above_0(own["spearman"])
    wrong = flips["significant_flipped"] + flips["significant_tied"]
    of_pairs = f"{wrong} of {flips['significant_pairs']} pairs that clearly differ"
    if rank is None:
        start = f"Nothing can be said of how imagination ranks {policies}"
    elif not is_claimed:
        start = f"Imagination does not clearly rank {policies} as reality does"
    elif rank < CLOSE or wrong > FEW * flips["significant_pairs"]:
        start = f"Imagination ranks {policies} only roughly as reality does, with {of_pairs} wrong"
    elif wrong:
        start = f"Imagination ranks {policies} much as reality does, but for {of_pairs}"
    else:
        start = f"Imagination ranks {policies} as reality does"
    doubt = ", which rank them as well," if is_claimed and _as_good(shuffled, own) else ""
    text = f"{start}: {_numbers(own)}; under shuffled actions{doubt} {_numbers(shuffled)}"
    if (returns := found["ranking"].get("return")) is None:
        return text
    # A success is a threshold, which a blurred dream may never pass though its returns are right.
    own, shuffled = (_numbers(returns[w], CORRELATIONS) for w in IMAGINED[:2])
    return f"{text}. By return: {own}; under shuffled actions {shuffled}"


def _as_good(other: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Return whether another world ranks as well as the world model by one of two statistics."""
    rank, violation = other["spearman"]["value"], other["mmrv"]["value"]
    by_rank = rank is not None and rank >= own["spearman"]["value"]
    return by_rank or (violation is not None and violation <= own["mmrv"]["value"])


def _numbers(found: Mapping[str, Any], names: Mapping[str, str] = STATISTICS) -> str:
    return ", ".join(f"{name} {estimate_text(found[key])}" for key, name in names.items())
