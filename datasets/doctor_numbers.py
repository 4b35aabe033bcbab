"""The doctor's pass over all numbers of a data set: actions, vectors and outcomes.

Axes: T steps of an episode, K = T or T + 1 stored frames, D values of a vector, A of an action.
Episodes are read one at a time; of each a few numbers are kept, and of some all, so that memory is
bounded. What cannot be read is noted and the pass goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scd_wm.datasets.measure import CONSTANT_STD, Moments
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Reader, SourceInfo

SAMPLE_BYTES = 2**26  # of episodes whose numbers are kept whole
PRINT_STEPS, PRINT_VALUES = 8, 32  # steps and values of a fingerprint
FLAGS = ("terminated", "success")  # the outcomes that are set or not
READ_ERRORS = (ValueError, OSError, KeyError)  # a damaged file


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """What is kept of every episode."""

    info: EpisodeInfo
    problems: tuple[str, ...]  # what could not be read, with the reason
    not_finite: Mapping[str, int]  # key: rows with NaN or infinity
    still: frozenset[str]  # actions and vectors that do not change within the episode
    digest: str  # of all numbers; equal for equal episodes
    fingerprint: np.ndarray  # (F,) float32: some numbers of a few steps; empty if damaged


@dataclass(frozen=True, kw_only=True)
class SampleEpisode:
    """All actions of one episode, and its vectors; each is left out if not all of it is finite."""

    index: int  # of the reader's episodes
    actions: np.ndarray  # (T, A) float32
    vectors: Mapping[str, np.ndarray]  # name: (K, D) float32; not always all


@dataclass(frozen=True, kw_only=True)
class NumberSurvey:
    """What the pass saw."""

    info: SourceInfo
    episodes: list[EpisodeRecord]  # as the reader's, but no more than asked for
    moments: dict[str, Moments]  # "action", "reward" and every vector, of rows that are finite
    sample: list[SampleEpisode]  # spread evenly over the data
    flags: dict[str, list[bool]] = field(default_factory=dict)  # whether each is ever set, episodes
    returns: list[float] = field(default_factory=list)  # sums of rewards

    @property
    def vectors(self) -> list[str]:
        """Names of the vectors."""
        return [name for name, entry in self.info.fields.items() if entry.kind == "vector"]

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras."""
        return [name for name, entry in self.info.fields.items() if entry.kind == "image"]

    @property
    def lengths(self) -> np.ndarray:
        """Steps of all episodes, (E,), looked at or not."""
        return np.array([e.num_actions for e in self.info.episodes], dtype=np.int64)

    def moving(self, key: str) -> np.ndarray:
        """Return the indices of the values of `key` that vary, (M,)."""
        if key not in self.moments:
            return np.zeros(0, dtype=np.int64)
        moments = self.moments[key]
        return np.flatnonzero(moments.std > CONSTANT_STD * np.maximum(1.0, abs(moments.mean)))


def survey_numbers(reader: Reader, indices: Iterable[int]) -> NumberSurvey:
    """Read the numbers of episodes, one episode at a time.

    Args:
        reader: Of the data set.
        indices: Episodes to look at; a progress bar around them sees the pass.
    """
    info = reader.info
    survey = NumberSurvey(info=info, episodes=[], moments={}, sample=[])
    stride = _sample_stride(survey)
    for index in indices:
        rows, problems = _read(reader, index, survey.vectors)
        bad = {key: int((~_finite_rows(values)).sum()) for key, values in rows.items()}
        bad = {key: count for key, count in bad.items() if count}
        _count(survey, rows)
        motion = {key: v for key, v in rows.items() if key == ACTION or key in survey.vectors}
        survey.episodes.append(_record(info.episodes[index], motion, tuple(problems), bad))
        whole = {key: values for key, values in motion.items() if key not in bad}
        if len(survey.episodes) % stride == 1 % stride and ACTION in whole:
            actions = whole.pop(ACTION)
            survey.sample.append(SampleEpisode(index=index, actions=actions, vectors=whole))
    return survey


def _count(survey: NumberSurvey, rows: Mapping[str, np.ndarray]) -> None:
    """Add the rows of one episode to the statistics of the whole."""
    for key, rows_of_key in rows.items():
        if key in FLAGS:
            survey.flags.setdefault(key, []).append(bool((rows_of_key != 0).any()))
            continue
        values = rows_of_key.reshape(len(rows_of_key), -1)
        survey.moments.setdefault(key, Moments(values.shape[1])).add(values[_finite_rows(values)])
    if "reward" in rows:
        survey.returns.append(float(np.nansum(rows["reward"])))


def _sample_stride(survey: NumberSurvey) -> int:
    """Return how many episodes stand for one that is kept whole."""
    info = survey.info
    width = info.action_dim + sum(int(np.prod(info.fields[v].shape)) for v in survey.vectors)
    total = 4 * width * sum(episode.num_observations for episode in info.episodes)
    return max(1, -(-total // SAMPLE_BYTES))


def _read(
    reader: Reader, index: int, vectors: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return all numbers of an episode that can be read, float32, and why others cannot."""
    episode = reader.info.episodes[index]
    wanted = dict.fromkeys((ACTION, *reader.info.outcomes), episode.num_actions)
    wanted |= {name: episode.num_observations for name in vectors if name not in episode.missing}
    rows: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for key, num_rows in wanted.items():
        try:
            values = np.asarray(reader.read(index, key, 0, num_rows)).astype(np.float32)
        except READ_ERRORS as error:
            problems.append(f"{key}: {' '.join(str(error).split())}")
            continue
        if len(values) == num_rows:
            rows[key] = values
        else:
            problems.append(f"{key}: has {len(values)} rows, its episode has {num_rows}")
    return rows, problems


def _finite_rows(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values).reshape(len(values), -1).all(axis=1)


def _record(
    episode: EpisodeInfo,
    rows: Mapping[str, np.ndarray],
    problems: tuple[str, ...],
    not_finite: Mapping[str, int],
) -> EpisodeRecord:
    digest = hashlib.sha256()
    for key in sorted(rows):
        digest.update(key.encode() + rows[key].tobytes())
    still = {key for key, values in rows.items() if len(values) and (values == values[:1]).all()}
    whole = not problems and not not_finite
    return EpisodeRecord(
        info=episode,
        problems=problems,
        not_finite=not_finite,
        still=frozenset(still),
        digest=digest.hexdigest(),
        fingerprint=_fingerprint(rows) if whole else np.zeros(0, np.float32),
    )


def _fingerprint(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the numbers of a few steps spread over the episode, (F,) float32."""
    num_rows = min(len(values) for values in rows.values())
    steps = np.linspace(0, num_rows - 1, PRINT_STEPS).round().astype(int)
    picked = [rows[key][steps].reshape(PRINT_STEPS, -1) for key in sorted(rows)]
    return np.concatenate(picked, axis=1)[:, :PRINT_VALUES].ravel()
