import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scd_wm.clip import Clip
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate
from scd_wm.evaluation.null_models import Imagine
from scd_wm.imagination import Frames
from scd_wm.report.build import render, write_media, write_report
from scd_wm.report.headline import comparison, headline
from scd_wm.report.items import Media, RunReport
from scd_wm.report.media import MediaConfig, make_media
from scd_wm.report.plots import training_curve
from scd_wm.report.video import decode_mp4
from scd_wm.spec import Spec
from tests.evaluation.moving_disc import BLUE, SIZE, SPEC, MovingDisc, noisy, perfect

SOURCE = MovingDisc((20,) * 6)
STATE_SPEC = Spec(vectors=SPEC.vectors, action=SPEC.action, outcomes=SPEC.outcomes, fps=10.0)
CONFIG = EvaluationConfig(num_clips=8, history=2, horizons=(1, 4, 8), num_resamples=100)
MEDIA = MediaConfig(
    history=2, horizons=(1, 4, 8), num_comparisons=3, num_strips=2, num_futures=2, panel_width=64
)


def make_report(imagine: Imagine, spec: Spec = SPEC, name: str = "a <run> & more") -> RunReport:
    colours = {"disc": BLUE} if spec.cameras else {}
    return RunReport(
        name=name,
        description="A disc that goes where it is told.",
        evaluation=evaluate(imagine, SOURCE, spec, CONFIG, tracked_colours=colours, progress=False),
        media=make_media(imagine, SOURCE, spec, MEDIA, colours),
        log=[{"step": i, "loss": 1 / i} for i in range(1, 50)] + [{"step": 49, "val_loss": 0.1}],
        config={"model": {"dim": 32, "betas": [0.9, 0.95]}, "preset": "tiny"},
        data={"path": "/data/disc.hdf5"},
        facts={"parameters": "1 M"},
    )


@pytest.fixture(scope="module")
def report() -> RunReport:
    return make_report(noisy)


@pytest.fixture(scope="module")
def page(report: RunReport) -> str:
    return render([report, make_report(perfect, STATE_SPEC, "state only")], "Title")


class Tags(HTMLParser):
    """Collects attributes and checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_asks_for_nothing_from_a_network(page: str) -> None:
    assert not re.search(r"https?:", page)
    assert "//cdn" not in page
    assert "@import" not in page
    for tag, attributes in Tags(page).found:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")), (tag, value[:80])


def test_every_video_and_picture_in_the_page_decodes(page: str, report: RunReport) -> None:
    sources = [a["src"] or "" for tag, a in Tags(page).found if tag == "video"]
    assert len(sources) == 1 + 3 + 2 + 2  # one above all, then comparisons, futures, actions
    for source in sources:
        video = decode_mp4(base64.b64decode(source.removeprefix("data:video/mp4;base64,")))
        assert len(video) >= 2 + 8
        assert video.std() > 5
    pictures = [a["src"] or "" for tag, a in Tags(page).found if tag == "img"]
    assert len(pictures) == 2
    for source in pictures:
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size[0] > 100


def test_links_and_clip_paths_point_at_ids_that_are_there_once(page: str) -> None:
    tags = Tags(page).found
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {
        (a.get(n) or "")[1:]
        for _, a in tags
        for n in ("href", "xlink:href")
        if (a.get(n) or "").startswith("#")
    }
    targets |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert targets <= set(ids)


def test_names_are_escaped(page: str) -> None:
    assert "a &lt;run&gt; &amp; more" in page
    assert "<run>" not in page


def test_plots_follow_the_colours_of_the_page(page: str) -> None:
    assert "var(--model)" in page
    assert not re.search(r"#0[1-9]0[1-9]0[1-9]", page)


def test_what_matters_to_a_policy_is_shown_and_what_is_left_out_is_said(page: str) -> None:
    assert page.count("What matters to a policy") == 2
    assert "action, by images: R²" in page
    assert "success: how often it happened" in page
    assert "FVD: no I3D weights were given" in page
    assert "fitted on the other half of these episodes" in page


def test_a_world_without_cameras_has_plots_and_no_videos() -> None:
    report = make_report(perfect, STATE_SPEC)
    assert report.media.videos == ()
    assert report.media.strips == ()
    titles = [d.title for d in report.media.drawings]
    assert titles[0] == "Paths of disc_pos"
    assert sum(t.startswith("disc_pos over time") for t in titles) == 2
    assert "<video" not in render([report], "Title")


def test_the_imagined_panel_of_a_perfect_model_equals_the_real_one() -> None:
    media = make_media(perfect, SOURCE, SPEC, MEDIA, {"disc": BLUE})
    video = decode_mp4(media.comparisons[1].mp4).astype(float)  # not the first row of the batch
    half = video.shape[2] // 2
    real, imagined = video[:, 32:96, 8:72], video[:, 32:96, 80:144]
    assert video.shape[2] == 152
    assert half == 76
    assert np.abs(real - imagined).mean() < 2
    assert real.std() > 20


def test_other_actions_and_other_noise_reach_the_model() -> None:
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(history: Clip, actions: torch.Tensor, seeds: torch.Tensor) -> Frames:
        calls.append((actions, seeds))
        return noisy(history, actions, seeds)

    make_media(spy, SOURCE, SPEC, MEDIA)
    own, *futures = calls[:3]
    assert all(actions.equal(own[0][:2]) for actions, _ in futures)
    assert len({tuple(s[:2].tolist()) for _, s in (own, *futures)}) == 3
    others = calls[3:]
    assert all(seeds.equal(own[1][:2]) for _, seeds in others)
    assert not any(actions.equal(own[0][:2]) for actions, _ in others)
    assert (others[-1][0] == 0).all()


def test_files_are_written_whole_and_replaced(tmp_path: Path, report: RunReport) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, [report])
    files = write_media(tmp_path / "media", report.media)
    assert path.read_text().startswith("<!doctype html>")
    assert len(files) == len(report.media.videos) + len(report.media.strips)
    assert all(f.stat().st_size > 100 for f in files)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_headline_starts_with_positions_and_tells_who_is_better() -> None:
    facts = headline(make_report(perfect).evaluation)
    assert [f.metric for f in facts[:2]] == ["position_px/top/disc", "position/disc_pos"]
    assert facts[0].horizon == 8
    assert facts[0].note == "found in 100 % of all frames"
    assert facts[0].verdicts[0].kind == "better"
    assert facts[0].verdicts[0].text.startswith("better than copying the last frame by")
    assert max(bar.share for bar in facts[0].bars) == 1


def test_runs_are_compared_on_the_metrics_that_they_have(report: RunReport) -> None:
    rows = comparison([report.evaluation, make_report(perfect, STATE_SPEC).evaluation])
    cells = {row.label: row.cells for row in rows}
    assert cells["disc: position error [px]"][1] == ("", "")
    assert all(value for value, _ in cells["disc_pos: position error"])


def test_a_log_without_losses_has_no_curve() -> None:
    assert training_curve([]) is None
    assert training_curve([{"step": 1, "val_loss": 2.0}]) is None
    svg = training_curve([{"step": i, "loss": 2.0 - i} for i in range(4)])  # also below 0
    assert svg is not None
    assert svg.startswith("<svg")


def test_lively_clips_are_shown_first() -> None:
    source = MovingDisc((20,) * 6)
    for episode in range(5):  # only the last one moves
        source.actions[episode].zero_()
        source.positions[episode][:] = torch.tensor([SIZE / 2, SIZE / 2])
    media: Media = make_media(perfect, source, SPEC, MEDIA)
    assert media.comparisons[0].caption.startswith("episode_5")
