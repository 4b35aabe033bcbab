"""The page on policies: what is in it, and what is said where something is not defined."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from scd_wm.evaluation.result import COPY_LAST, SHUFFLED, WORLD_MODEL
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.episode import IMAGINED, REAL, Episode
from scd_wm.policy_evaluation.films import choose, film
from scd_wm.policy_evaluation.results import Results, verdict
from scd_wm.report.policies_page import render_policies
from scd_wm.report.policies_plots import success_scatter
from scd_wm.report.video import decode_mp4

RATES = {"bad <i>": 0.1, "fair": 0.5, "good": 0.9}


def episode(
    policy: str, start: int, world: str, success: bool, judged: float | None = None
) -> Episode:
    imagined = world == WORLD_MODEL
    return Episode(
        policy=policy,
        start=str(start),
        seed=start,
        world=world,
        success=success,
        total_reward=float(success) + start / 100,
        num_steps=3,
        success_probability=(0.9 if success else 0.2) if imagined else None,
        uncertainty=start / 20 if imagined else None,
        judged=judged,
    )


def results(order: dict[str, float], judged: bool = False, count: int = 20) -> dict[str, Any]:
    """Return what comes of policies whose imagined success has these rates."""
    hard = (np.arange(count) * 7 % count + 0.5) / count
    rates = {
        REAL: RATES,
        WORLD_MODEL: order,
        SHUFFLED: dict.fromkeys(RATES, 0.1),
        COPY_LAST: dict.fromkeys(RATES, 0.0),
    }
    episodes = [
        episode(p, i, world, bool(hard[i] < rate[p]), float(i % 2) if judged else None)
        for world, rate in rates.items()
        for p in RATES
        for i in range(count)
    ]
    config = PolicyEvaluationConfig(episodes=count, resamples=200, off_data=0.8)
    starts = [str(i) for i in range(count)]
    return Results.of(episodes[::-1], list(RATES), starts, config).to_json()


def page(found: dict[str, Any], films: list[Any] | None = None, **changes: Any) -> str:
    summary = {
        "run": "runs/x",
        "env": "Env-v0",
        "real": "simulator",
        "policies_as_given": {n: {"policy": n, "noise": 0.0} for n in RATES},
        "starts": list(range(20)),
        "starts_refused": [],
        "max_steps": 9,
        "num_steps": 1,
        "config": {},
        "device": "cpu",
        "processes": 1,
        "threads": 1,
        "seconds": 1.0,
        "verdict": verdict(found),
        **found,
        **changes,
    }
    return render_policies(summary, films or [])


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html.split("<main", 1)[1]).split())


def test_the_page_holds_every_section_and_no_link_outside() -> None:
    html = page(results(RATES, judged=True))
    text = text_of(html)
    for title in ("Policies", "Ranking", "Pairs of policies", "Is predicted success what happens?"):
        assert title in text
    assert re.search(r"calibration error 0.\d+ \(95 % interval 0.\d+ to 0.\d+; 0.\d+ if", text)
    for title in ("Episodes that left the data", "Outcome and judge", "Episodes needed"):
        assert title in text
    assert "bad &lt;i&gt;" in html
    assert "bad <i>" not in html
    assert "http" not in html
    assert html.count("<svg") == 3  # success, return, calibration
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len({*ids})


def test_the_verdict_says_what_the_numbers_say() -> None:
    good = results(RATES)
    assert verdict(good).startswith(
        "Imagination ranks these 3 policies as reality does: Pearson 1.00"
    )
    assert "; under shuffled actions Pearson undefined" in verdict(good)
    turned = results({"bad <i>": 0.9, "fair": 0.5, "good": 0.1})
    assert verdict(turned).startswith("Imagination does not clearly rank these 3 policies")
    assert (
        turned["rank_flips"]["significant_flipped"] == turned["rank_flips"]["significant_pairs"] > 1
    )
    partly = results({"bad <i>": 0.1, "fair": 0.9, "good": 0.8})
    assert "only roughly as reality does, with 1 of 3 pairs that clearly differ" in verdict(partly)
    partly["ranking"]["success"][WORLD_MODEL]["spearman"]["value"] = 0.9
    partly["rank_flips"]["significant_pairs"] = 10
    assert "much as reality does, but for 1 of 10 pairs that clearly differ" in verdict(partly)
    worse = results({"bad <i>": 0.1, "fair": 0.9, "good": 0.8})
    worse["ranking"]["success"][SHUFFLED]["mmrv"]["value"] = 0.0
    assert "under shuffled actions, which rank them as well," in verdict(worse)
    as_good = results(RATES)
    as_good["ranking"]["success"][SHUFFLED] = as_good["ranking"]["success"][WORLD_MODEL]
    assert "under shuffled actions, which rank them as well, Pearson 1.00" in verdict(as_good)
    turned["ranking"]["success"][SHUFFLED] = as_good["ranking"]["success"][WORLD_MODEL]
    assert "under shuffled actions Pearson 1.00" in verdict(turned)
    lucky = results(RATES)
    lucky["ranking"]["success"][WORLD_MODEL]["spearman"]["undefined_over_episodes"] = 0.4
    assert verdict(lucky).startswith("Imagination does not clearly rank these 3 policies")
    assert "Spearman 1.00 (1.00 to 1.00, undefined in 40%)" in verdict(lucky)
    assert "1.00 to 1.00, undefined in 40%" in text_of(page(lucky))
    nothing = results(dict.fromkeys(RATES, 0.0))
    assert verdict(nothing).startswith("Nothing can be said")
    assert "undefined" in text_of(page(nothing))


def test_the_verdict_also_ranks_by_return_where_there_is_one() -> None:
    found = results(dict.fromkeys(RATES, 0.0))
    found["ranking"]["return"] = results(RATES)["ranking"]["return"]
    said = verdict(found)
    assert said.startswith("Nothing can be said")
    assert ". By return: Pearson 1.00 (1.00 to 1.00), Spearman 1.00" in said
    assert "MMRV" not in said.split("By return")[1]  # in units of the reward it says nothing
    assert "; under shuffled actions Pearson undefined" in said.split("By return")[1]
    del found["ranking"]["return"]
    assert "By return" not in verdict(found)


def test_policies_at_one_place_share_a_label() -> None:
    found = results(RATES)
    policies = [{**found["policies"][p]} for p in ("fair", "good", "fair")]
    svg = success_scatter(policies, [WORLD_MODEL])
    assert ">1, 3</text>" in svg
    assert ">2</text>" in svg


def test_numbers_of_the_results_worked_by_hand() -> None:
    found = results({"bad <i>": 0.2, "fair": 0.5, "good": 0.9}, judged=True)
    assert [found["policies"][p][REAL]["success"] for p in RATES] == [2, 10, 18]
    assert found["policies"]["bad <i>"]["same_outcome"] == 18
    own = found["ranking"]["success"][WORLD_MODEL]
    expected = np.corrcoef([0.1, 0.5, 0.9], [0.2, 0.5, 0.9])[0, 1]
    assert own["pearson"]["value"] == pytest.approx(expected)
    assert own["mean_error"]["value"] == pytest.approx(0.1 / 3)
    assert found["off_data"]["flagged"] == 9  # starts 17, 18 and 19 of each
    rest = found["off_data"]["policies"]["good"]["rest"][REAL]
    hard = (np.arange(17) * 7 % 20 + 0.5) / 20
    assert rest == {"success": int((hard < 0.9).sum()), "episodes": 17}
    assert set(found["ranking"]) == {"success", "return", "success by judge", "success on data"}
    judge = found["judge"]["policies"]["good"]
    assert judge["both"] + judge["judge_only"] == 10
    assert found["calibration"]["bins"][0]["predicted"] == pytest.approx(0.2)
    assert set(IMAGINED) == set(found["ranking"]["success"])


def test_films_are_of_agreement_disagreement_and_doubt() -> None:
    real = [episode("p", i, REAL, s) for i, s in enumerate((False, True, True, False))]
    dream = [
        episode("p", 0, WORLD_MODEL, False, 0.1),
        episode("p", 1, WORLD_MODEL, True, 0.2),
        episode("p", 2, WORLD_MODEL, False, 0.3),
        episode("p", 3, WORLD_MODEL, False, 0.7),
    ]
    assert choose(real, dream, 1) == [("agree", 1), ("disagree", 2), ("judge", 1)]
    assert choose(real, dream, 9)[:3] == [("agree", 1), ("agree", 0), ("agree", 3)]
    assert choose(real, dream, 0) == []


def test_a_film_shows_both_worlds_and_holds_the_end_of_the_shorter() -> None:
    real = [np.full((16, 16, 3), 200, np.uint8)] * 2
    dream = [np.full((16, 16, 3), value, np.uint8) for value in (200, 150, 100, 50)]
    pair = episode("p", 0, REAL, True), episode("p", 0, WORLD_MODEL, False, 0.9)
    made = film("disagree", (pair[0], real), (pair[1], dream), 10)
    assert made.caption == "start 0: really success in 3, imagined no success, judged a success"
    frames = decode_mp4(made.mp4)[:4]
    middle, quarter = frames.shape[1] // 2, frames.shape[2] // 4
    np.testing.assert_allclose(frames[:, middle, quarter, 0], 200, atol=6)
    np.testing.assert_allclose(frames[:, middle, 3 * quarter, 0], [200, 150, 100, 50], atol=6)
    html = page(results(RATES), [made.__class__(**{**vars(made), "policy": "good"})])
    assert html.count("<video") == 1
    assert "They do not: start 0" in html
