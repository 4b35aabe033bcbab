"""Films of episodes in which the worlds agree, or do not: real beside imagined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scd_wm.policy_evaluation.episode import Episode
from scd_wm.report.drawing import Panel, compose, resize
from scd_wm.report.items import EpisodeFilm
from scd_wm.report.video import encode_mp4

PANEL_WIDTH = 192
AGREE, DISAGREE, JUDGE = "agree", "disagree", "judge"  # kinds of `EpisodeFilm`

Pictures = Sequence[np.ndarray]
"""Of an episode's frames, (H, W, 3) uint8 each."""


def choose(
    real: Sequence[Episode], imagined: Sequence[Episode], count: int
) -> list[tuple[str, int]]:
    """Return which episodes of a policy to show, as kind and number, at most `count` of a kind.

    Of those that agree, successes come first, since there is more to see.
    """
    pairs = list(enumerate(zip(real, imagined, strict=True)))
    agree = [i for i, (a, b) in pairs if a.success == b.success]
    agree.sort(key=lambda i: not real[i].success)
    kinds = {
        AGREE: agree,
        DISAGREE: [i for i, (a, b) in pairs if a.success != b.success],
        JUDGE: [
            i for i, (_, b) in pairs if b.judged is not None and b.is_judged_success != b.success
        ],
    }
    return [(kind, i) for kind, rows in kinds.items() for i in rows[:count]]


def film(
    kind: str,
    real: tuple[Episode, Pictures],
    imagined: tuple[Episode, Pictures],
    fps: float,
) -> EpisodeFilm:
    """Make a film of an episode, real beside imagined where there are pictures of both.

    Args:
        kind: Of the film.
        real: The real episode and its pictures, none if it comes from a table.
        imagined: The imagined one and its pictures, at least one.
        fps: Frames a second.
    """
    shown = [(*real, None), (*imagined, 1)]
    longest = max(len(pictures) for _, pictures, _ in shown)
    panels = []
    for episode, pictures, first in shown:
        if len(pictures):
            held = np.stack([*pictures, *[pictures[-1]] * (longest - len(pictures))])
            title = "real" if first is None else "imagined"
            caption = f"{title}: {_verdict(episode)}"
            panels.append(Panel(caption, resize(held, PANEL_WIDTH), first))
    episode = imagined[0]
    words = f"start {episode.start}: really {_verdict(real[0])}, imagined {_verdict(episode)}"
    if episode.judged is not None:
        words += f", judged {'a' if episode.is_judged_success else 'no'} success"
    return EpisodeFilm(
        policy=episode.policy,
        kind=kind,
        caption=words,
        mp4=encode_mp4(compose(panels, len(panels), 1, PANEL_WIDTH), fps),
    )


def _verdict(episode: Episode) -> str:
    when = "" if episode.num_steps is None else f" in {episode.num_steps}"
    return f"success{when}" if episode.success else "no success"
