"""Checks of the doctor on time: the control rate, and whether motion comes when it should."""

from __future__ import annotations

from collections.abc import Iterator

from scd_wm.datasets.doctor_check_images import clear_steps, rhythm
from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, plural
from scd_wm.datasets.doctor_lag import LAGS, LagCurve
from scd_wm.datasets.doctor_motion import LEVEL, Likeness
from scd_wm.datasets.reader import ACTION

CLEAR_UNITS = 0.2  # from 1, within which a slope means the same units


def check_rate(exam: Exam) -> Iterator[Finding]:
    """Find data that does not say how fast it was recorded."""
    if exam.numbers.info.fps is None:
        yield Finding(
            code="no_rate",
            severity="warning",
            what="the data does not say how many steps make a second",
            advice="write it down where the format has a place for it (robomimic: control_freq in "
            "env_kwargs of env_args; LeRobot: fps in meta/info.json; a mapping of npz files: "
            "fps); videos play at 10 a second",
        )


def check_action_lag(exam: Exam) -> Iterator[Finding]:
    """Find motion that does not come with its action."""
    curves = exam.motion.actions_to_vectors or exam.motion.actions_to_cameras
    if not curves:
        if exam.actions.num_steps:
            yield _too_little()
        return
    best = max(curves, key=lambda curve: max(curve.gain))
    if not best.is_seen:
        yield Finding(
            code="no_relation",
            severity="warning",
            what=f"no action explains how {best.effect} changes, at any lag from {LAGS[0]} to "
            f"{LAGS[-1]} steps (at most {max(best.gain):.1%} of its unforeseen motion)",
            advice="look whether the actions belong to these episodes and this robot: a world "
            "model trained on this learns to ignore actions",
            keys=(ACTION, best.effect),
            numbers=best.to_json(),
        )
    elif best.is_shifted:
        yield _shifted(exam, best)
    else:
        share = f"{best.gain[best.lags.index(0)]:.0%} of what its past does not say"
        surely = f"{best.effect} is explained best by the action of the same step ({share})"
        maybe = (
            f"no other explains {best.effect} clearly better than that of the same step ({share})"
        )
        yield Finding(
            code="lag_ok",
            severity="info",
            what=f"motion comes with its action: {surely if best.best == 0 else maybe}",
            advice="nothing to do",
            keys=(ACTION, best.effect),
            numbers=best.to_json(),
        )


def check_camera_lag(exam: Exam) -> Iterator[Finding]:
    """Find cameras that show motion later or sooner than the vectors."""
    for curve in exam.motion.vectors_to_cameras:
        slow = rhythm(clear_steps(exam, exam.cameras[curve.effect]))  # late for its own reason
        if slow or not curve.is_shifted:
            continue
        late = curve.best > 0
        yield Finding(
            code="camera_lag",
            severity="warning",
            what=f"{curve.effect} shows motion {_steps(exam, abs(curve.best))} "
            f"{'after' if late else 'before'} {curve.cause} has it (interval {curve.best_low} to "
            f"{curve.best_high})",
            advice=f"pair frame t of {curve.effect} with row t {'-' if late else '+'} "
            f"{abs(curve.best)} of {curve.cause} and its action, by time stamps if there are any; "
            "a constant delay can be learnt, but frames then contradict their vectors",
            keys=(curve.cause, curve.effect),
            numbers=curve.to_json(),
        )


def check_action_kind(exam: Exam) -> Iterator[Finding]:
    """Say what the actions look like: places to go to, or changes."""
    kind, likeness = exam.motion.action_kind, exam.motion.likeness
    alike = [x for x in likeness if x.kind == kind]
    if kind == "unknown" or not alike:
        return
    vectors = list(dict.fromkeys(x.vector for x in alike))
    if kind == "position":
        what = f"{len(alike)} of {len(likeness)} continuous actions look like places that "
        what += f"{', '.join(vectors)} is sent to, {_units(alike)}{_arrivals(alike)}"
        advice = "joining steps with --frame-skip, take --action-mode last (or stack)"
    else:
        what = f"{len(alike)} of {len(likeness)} continuous actions look like changes or velocities"
        what += f" of {', '.join(vectors)}"
        advice = "joining steps with --frame-skip, take --action-mode sum (or stack)"
    yield Finding(
        code=f"{kind}_actions",
        severity="info",
        what=what,
        advice=advice,
        keys=(ACTION, *vectors),
        numbers={"correlation_needed": LEVEL, "num_alike": len(alike)},
    )


def _shifted(exam: Exam, curve: LagCurve) -> Finding:
    """Say by how much motion is late or early, and what that can mean."""
    steps, late = abs(curve.best), curve.best > 0
    edge = " or more" if curve.best in (LAGS[0], LAGS[-1]) else ""
    gains = f"{max(curve.gain):.0%} explained there, {curve.gain[curve.lags.index(0)]:.0%} at lag 0"
    if late:
        advice = (
            "either the robot answers late (usual on hardware): then keep the data and give the "
            f"model a window that spans {steps + 1} steps or more; or actions were stored too "
            f"early: then pair frame t with action t - {steps}"
        )
    else:
        advice = (
            "motion cannot come before its cause: the actions are stored too late; pair frame t "
            f"with action t + {steps}, and look how the recorder orders reading and commanding"
        )
    return Finding(
        code="action_lag",
        severity="warning",
        what=f"{curve.effect} moves {_steps(exam, steps)}{edge} {'after' if late else 'before'} "
        f"the action (interval {curve.best_low} to {curve.best_high}; {gains})",
        advice=advice,
        keys=(ACTION, curve.effect),
        numbers=curve.to_json(),
    )


def _too_little() -> Finding:
    return Finding(
        code="lag_unknown",
        severity="info",
        what="too little moves, or too few steps are there, to measure the lag between action and "
        "motion",
        advice="about 200 steps in episodes longer than 20 are needed",
    )


def _steps(exam: Exam, count: int) -> str:
    fps = exam.numbers.info.fps
    return plural(count, "step") + (f" ({1000 * count / fps:.0f} ms)" if fps else "")


def _units(alike: list[Likeness]) -> str:
    slopes = sorted(abs(x.slope) for x in alike)
    same = abs(slopes[len(slopes) // 2] - 1) < CLEAR_UNITS
    return "in the same units" if same else f"in other units ({slopes[len(slopes) // 2]:.3g} to 1)"


def _arrivals(alike: list[Likeness]) -> str:
    steps = sorted(x.arrives_after for x in alike if x.arrives_after is not None)
    if not steps:
        return ""
    span = f"{steps[0]}" if steps[0] == steps[-1] else f"{steps[0]} to {steps[-1]}"
    return f", and it is there after {span} step{'s' if span != '1' else ''}"
