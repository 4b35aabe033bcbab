"""Checks of the doctor on whole episodes: damaged, short, still, twice there, not used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, listed, plural
from scd_wm.datasets.doctor_numbers import EpisodeRecord
from scd_wm.datasets.reader import ACTION

CLIP_FRAMES = 8  # of the clips that the smaller presets train on
SHORT_SHARE = 0.2  # of the median length, below which an episode is short
SAME = 1e-3  # deviations over the data, within which two episodes are the same


def check_damaged(exam: Exam) -> Iterator[Finding]:
    """Find episodes of which something cannot be read."""
    damaged = {e.info.name: e.problems for e in exam.numbers.episodes if e.problems}
    for camera in exam.cameras.values():
        for name, reason in camera.problems.items():
            damaged[name] = (*damaged.get(name, ()), f"{camera.name}: {reason}")
    if damaged:
        first = next(iter(damaged))
        yield Finding(
            code="damaged",
            severity="error",
            what=f"{plural(len(damaged), 'episode')} cannot be read whole ({listed(list(damaged))})"
            f"; {first}: {damaged[first][0]}",
            advice="copy the files again or record these episodes again; until then leave them out",
            episodes=tuple(damaged),
            numbers={"reasons": {name: list(reasons) for name, reasons in damaged.items()}},
        )


def check_skipped(exam: Exam) -> Iterator[Finding]:
    """Repeat what the reader found and does not use."""
    if skipped := exam.numbers.info.skipped:
        yield Finding(
            code="skipped",
            severity="info",
            what=f"the reader does not use {plural(len(skipped), 'thing')}: {skipped[0]}"
            + (f"; and {len(skipped) - 1} more" if len(skipped) > 1 else ""),
            advice="see under skipped whether anything you need is among it",
            numbers={"skipped": list(skipped)},
        )


def check_missing(exam: Exam) -> Iterator[Finding]:
    """Find keys that only some episodes have: using them costs the other episodes."""
    info = exam.numbers.info
    for key, entry in info.fields.items():
        lacking = [episode.name for episode in info.episodes if key in episode.missing]
        if not lacking:
            continue
        option = "--cameras" if entry.kind == "image" else "--vectors"
        left = len(info.episodes) - len(lacking)
        yield Finding(
            code="missing_key",
            severity="warning",
            what=f"{key} is missing in {len(lacking)} of {len(info.episodes)} episodes "
            f"({listed(lacking)})",
            advice=f"with {key}, training uses the other {left}; to use all episodes, leave it out "
            f"with {option}",
            episodes=tuple(lacking),
            keys=(key,),
            numbers={"episodes_with_it": left},
        )


def check_short(exam: Exam) -> Iterator[Finding]:
    """Find episodes too short for a clip, and those far shorter than the others."""
    lengths = exam.numbers.lengths
    if not len(lengths):
        return
    least = max(CLIP_FRAMES - 1, int(SHORT_SHARE * float(np.median(lengths))))
    names = [e.name for e in exam.numbers.info.episodes if e.num_actions < least]
    if not names:
        return
    too_short = int((lengths < CLIP_FRAMES - 1).sum())
    yield Finding(
        code="short",
        severity="warning",
        what=f"{plural(len(names), 'episode')} shorter than {least} steps "
        f"(median {np.median(lengths):g}): {listed(names)}; {too_short} of them too short for a "
        f"clip of {CLIP_FRAMES} frames",
        advice="look whether the recording was cut off or started by mistake, and leave it out; "
        "num_frames=N trains on shorter clips",
        episodes=tuple(names),
        numbers={"least_steps": least, "too_short_for_a_clip": too_short},
    )


def check_still(exam: Exam) -> Iterator[Finding]:
    """Find episodes in which no vector changes, or no action."""
    vectors = set(exam.numbers.vectors)
    still = [
        e
        for e in exam.numbers.episodes
        if e.info.num_actions > 1 and (have := vectors - e.info.missing) and have <= e.still
    ]
    if vectors and still:
        names = [e.info.name for e in still]
        yield Finding(
            code="static",
            severity="warning",
            what=f"no vector ever changes in {plural(len(names), 'episode')} ({listed(names)})",
            advice="the robot stood still or its state was not recorded: leave these episodes out",
            episodes=tuple(names),
        )
    same = [
        e.info.name for e in exam.numbers.episodes if ACTION in e.still and e.info.num_actions > 1
    ]
    if same and len(exam.numbers.moving(ACTION)):
        yield Finding(
            code="same_action",
            severity="warning",
            what=f"one and the same action throughout {plural(len(same), 'episode')} "
            f"({listed(same)})",
            advice="look whether the actions were recorded there; if not, leave these episodes out",
            episodes=tuple(same),
        )


def check_duplicates(exam: Exam) -> Iterator[Finding]:
    """Find episodes that are there twice, exactly or nearly."""
    moving = [e for e in exam.numbers.episodes if len(e.fingerprint) and ACTION not in e.still]
    exact: dict[str, list[str]] = defaultdict(list)
    for episode in moving:
        exact[episode.digest].append(episode.info.name)
    twice = [names for names in exact.values() if len(names) > 1]
    first = [e for e in moving if e.info.name == exact[e.digest][0]]
    near = _near_pairs(first)
    for code, groups, word in (
        ("duplicated", twice, "equal"),
        ("nearly_same", near, "nearly equal"),
    ):
        if groups:
            yield Finding(
                code=code,
                severity="warning",
                what=f"{plural(sum(len(g) - 1 for g in groups), 'episode')} {word} to another in "
                f"all numbers: {listed([' = '.join(g[:3]) for g in groups])}",
                advice="keep one of each: a copy may be held out while its twin is trained on, "
                "and the evaluation then looks better than it is",
                episodes=tuple(name for names in groups for name in names),
                numbers={"groups": groups},
            )


def _near_pairs(episodes: Sequence[EpisodeRecord]) -> list[list[str]]:
    """Return pairs of names whose fingerprints are the same but for noise.

    Episodes of one length are ordered along a random direction, in which same ones lie side by
    side; comparing neighbours alone keeps the work linear.
    """
    by_shape: dict[tuple[int, int], list[EpisodeRecord]] = defaultdict(list)
    for episode in episodes:
        by_shape[episode.info.num_actions, len(episode.fingerprint)].append(episode)
    pairs = []
    for group in by_shape.values():
        if len(group) < 2 or not len(group[0].fingerprint):
            continue
        prints = np.stack([episode.fingerprint for episode in group]).astype(np.float64)
        spread = _spread_of(episodes, prints.shape[1])
        scaled = prints / spread
        order = np.argsort(scaled @ np.random.default_rng(0).normal(size=scaled.shape[1]))
        for a, b in pairwise(order):
            if np.abs(scaled[a] - scaled[b]).max() < SAME:
                pairs.append([group[i].info.name for i in sorted((a, b))])
    return pairs


def _spread_of(episodes: Sequence[EpisodeRecord], width: int) -> np.ndarray:
    """Return the deviation of each number of the fingerprints of all episodes, (F,)."""
    alike = [e.fingerprint for e in episodes if len(e.fingerprint) == width]
    spread = np.stack(alike).astype(np.float64).std(axis=0)
    return np.where(spread > 1e-9, spread, max(1e-9, float(spread.max())))
