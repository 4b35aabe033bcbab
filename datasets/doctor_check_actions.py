"""Checks of the doctor on actions: saturated, outside of the usual range, what they cover."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scd_wm.datasets.doctor_actions import BINS, ActionValue
from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, dims, listed, plural
from scd_wm.datasets.reader import ACTION

SATURATED = 0.2  # share of steps at one end of a continuous value's range
IDLE, REPEATED = 0.3, 0.5  # shares of steps without an action, with the one before
NARROW_ENTROPY = 0.35  # of a histogram, below which most actions are alike
FEW_DIRECTIONS = 0.4  # of the values that vary, below which they move together
UNIT_FORMATS = ("robomimic",)  # formats whose actions are meant to lie in [-1, 1]


def check_no_actions(exam: Exam) -> Iterator[Finding]:
    """Find data whose actions could not be looked at."""
    if not exam.actions.num_steps:
        yield Finding(
            code="no_actions",
            severity="error",
            what="no episode has actions that are all readable and finite",
            advice="repair them, as said of each; nothing of actions and motion could be measured",
            keys=(ACTION,),
        )


def check_saturated(exam: Exam) -> Iterator[Finding]:
    """Find continuous values that are often at the end of their range."""
    at_ends: list[tuple[ActionValue, float]] = []
    for value in exam.actions.values:
        # the value that is there when nothing is commanded is rest, not saturation
        shares = [(value.low, value.share_low), (value.high, value.share_high)]
        share = sum(s for end, s in shares if s > 0.02 and end != 0)
        if value.kind == "continuous" and share > SATURATED:
            at_ends.append((value, share))
    if at_ends:
        indices = [value.index for value, _ in at_ends]
        worst, share = max(at_ends, key=lambda pair: pair[1])
        yield Finding(
            code="saturated",
            severity="warning",
            what=f"{dims(ACTION, indices)} {'is' if len(indices) == 1 else 'are'} often at the end "
            f"of the range: [{worst.index}] in {share:.0%} of the steps at {worst.low:g} or "
            f"{worst.high:g}",
            advice="if commands were cut to this range before they were recorded, record what the "
            "robot was told; if it is a hand that rests open or closed, that is fine",
            keys=(ACTION,),
            numbers={"share": {str(value.index): s for value, s in at_ends}},
        )


def check_range(exam: Exam) -> Iterator[Finding]:
    """Find actions outside of [-1, 1] in a format that promises it."""
    outside = [v.index for v in exam.actions.values if max(-v.low, v.high) > 1.001]
    if outside and exam.numbers.info.format in UNIT_FORMATS:
        low = min(value.low for value in exam.actions.values)
        high = max(value.high for value in exam.actions.values)
        yield Finding(
            code="action_range",
            severity="info",
            what=f"{dims(ACTION, outside)} leave [-1, 1], which robomimic expects: "
            f"{low:.3g} to {high:.3g}",
            advice="fine for the world model, which scales by what it sees; a robomimic policy "
            "cuts them",
            keys=(ACTION,),
            numbers={"min": low, "max": high},
        )


def check_idle(exam: Exam) -> Iterator[Finding]:
    """Find data in which nothing is commanded for much of the time."""
    stats = exam.actions
    if stats.share_idle > IDLE:
        yield Finding(
            code="idle",
            severity="warning",
            what=f"all continuous actions are 0 in {stats.share_idle:.0%} of the steps",
            advice="cut pauses at the start and the end of episodes: the model spends its time on "
            "learning that nothing happens",
            keys=(ACTION,),
            numbers={"share": stats.share_idle},
        )
    elif stats.share_repeated > REPEATED and stats.of_kind("continuous"):
        yield Finding(
            code="repeated_actions",
            severity="warning",
            what=f"the action equals the one before in {stats.share_repeated:.0%} of the steps",
            advice="the commands come more slowly than the frames, or the robot waits: try "
            f"--frame-skip {_repeat_skip(stats.share_repeated)}, or cut the pauses",
            keys=(ACTION,),
            numbers={"share": stats.share_repeated},
        )


def _repeat_skip(share: float) -> int:
    """Return how many steps an action lasts on average."""
    return int(np.clip(round(1 / max(1 - share, 1e-6)), 2, 8))


def check_coverage(exam: Exam) -> Iterator[Finding]:
    """Say how much of the space of actions the data covers."""
    stats = exam.actions
    continuous = [v for v in stats.values if v.kind == "continuous"]
    if not continuous:
        return
    narrow = [v.index for v in continuous if v.entropy < NARROW_ENTROPY]
    if narrow:
        yield Finding(
            code="narrow_actions",
            severity="warning",
            what=f"{dims(ACTION, narrow)} take nearly always the same few values of their range",
            advice="the model learns little of what else they do: record some episodes with noise "
            "on the actions, or of other tasks",
            keys=(ACTION,),
            numbers={
                str(v.index): {"entropy": v.entropy, "occupied": v.occupied} for v in continuous
            },
        )
    few = stats.num_moving > 2 and stats.effective_dims < FEW_DIRECTIONS * stats.num_moving
    if few:
        yield Finding(
            code="few_directions",
            severity="info",
            what=f"the {stats.num_moving} action values that vary move together, as about "
            f"{stats.effective_dims:.1f} independent ones",
            advice="inside the world model trust policies that act like those recorded; episodes "
            "with noise on single values would widen it",
            keys=(ACTION,),
            numbers={"effective_dims": stats.effective_dims, "num_moving": stats.num_moving},
        )
    occupied = float(np.mean([v.occupied for v in continuous]))
    entropy = float(np.mean([v.entropy for v in continuous]))
    yield Finding(
        code="coverage",
        severity="info",
        what=f"actions fill {occupied:.0%} of the {BINS} bins of the usual range of "
        f"{plural(len(continuous), 'continuous value')} (evenness {entropy:.2f} of 1), in about "
        f"{stats.effective_dims:.1f} independent directions",
        advice="nothing to do; outside of what is covered the world model guesses",
        keys=(ACTION,),
        numbers={"occupied": occupied, "entropy": entropy, "effective_dims": stats.effective_dims},
    )


def check_redundant(exam: Exam) -> Iterator[Finding]:
    """Find action values that say the same."""
    if pairs := exam.actions.correlated:
        shown = listed([f"[{a}] and [{b}] ({c:+.3f})" for a, b, c in pairs], 3)
        yield Finding(
            code="redundant_actions",
            severity="info",
            what=f"{plural(len(pairs), 'pair')} of action values always go together: {shown}",
            advice="a policy that moves one without the other leaves what the data shows",
            keys=(ACTION,),
            numbers={"pairs": [list(pair) for pair in pairs[:50]]},
        )
