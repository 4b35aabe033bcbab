"""One run of a study: trained unless it is there, and measured unless it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scd_wm.datasets.options import DataOptions
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate
from scd_wm.evaluation.locate import colours_from_metadata
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.study.config import RunName, StudyConfig
from scd_wm.training import files
from scd_wm.training.checkpoint import checkpoints, load_world_model
from scd_wm.training.run import SUMMARY, train_run
from scd_wm.training.run_data import open_run_data
from scd_wm.training.run_log import LOG, read_log

HISTORY = 4  # real frames given
COOLDOWN = 0.25  # of the steps, in which the learning rate falls to 0
COOLDOWN_STEPS = "cooldown_steps"  # the setting of that
KEPT = ("steps", "minutes", "parameters", "val_loss", "threads", "device")  # of a run's summary


@dataclass(frozen=True)
class WorldData:
    """The data of a world."""

    train: Path
    test: Path  # the same as `train` where the episodes held out of training are the test
    options: DataOptions
    held_out: float  # share of `train`


@dataclass(frozen=True)
class Job:
    """A run to make."""

    out: Path  # of the study
    run: RunName
    config: StudyConfig
    data: WorldData
    changes: tuple[str, ...]  # "key=value", in the preset
    steps: int

    @property
    def folder(self) -> Path:
        """Return where the run is."""
        return self.out / "runs" / self.run.folder

    @property
    def scores(self) -> Path:
        """Return where its measurements are."""
        return self.out / "scores" / f"{self.run.folder}.json"

    @property
    def is_made(self) -> bool:
        """Say whether nothing is left to do."""
        return self.scores.is_file() and self._is_trained

    @property
    def steps_done(self) -> int:
        """Return the training steps made so far, up to what the log tells."""
        if self._is_trained:
            return self.steps
        lines = read_log(self.folder) if (self.folder / LOG).is_file() else []
        return int(lines[-1]["step"]) if lines else 0

    def make(self) -> None:
        """Train and measure.

        Raises:
            KeyboardInterrupt: If training was stopped; the same call goes on.
        """
        if not self._is_trained:
            self._train()
        if not self.scores.is_file():
            self._measure()

    def read(self) -> dict[str, Any]:
        """Return how it was trained and what it scored."""
        trained = files.read_json(self.folder / SUMMARY)
        scores: Mapping[str, Any] = files.read_json(self.scores)
        return {**asdict(self.run), **{k: trained[k] for k in KEPT}, "scores": scores}

    @property
    def _is_trained(self) -> bool:
        summary = self.folder / SUMMARY
        return summary.is_file() and bool(files.read_json(summary)["finished"])

    def _train(self) -> None:
        print(f"\ntraining {self.run.folder}: {self.steps} steps", flush=True)
        summary = train_run(
            self.data.train,
            self.folder,
            preset=self.config.preset(self.run.world),
            steps=self.steps,
            overrides=[*self.changes, f"{COOLDOWN_STEPS}={round(COOLDOWN * self.steps)}"],
            resume=bool(checkpoints(self.folder)),
            seed=self.run.seed,
            options=self.data.options,
            held_out=self.data.held_out,
        )
        if not summary["finished"]:
            raise KeyboardInterrupt

    def _measure(self) -> None:
        """Evaluate the run at each number of sampler steps, on the same clips as all others."""
        print(f"\nevaluating {self.run.folder}", flush=True)
        model = load_world_model(self.folder, engine="auto")
        test = open_run_data(self.folder, self.data.test)
        test.prepare()
        config = self.config
        settings = EvaluationConfig(
            num_clips=config.num_clips,
            num_futures=config.num_futures,
            history=HISTORY,
            horizons=config.horizons,
        )
        colours = colours_from_metadata(test.info.metadata)
        scores = {
            str(steps): evaluate(
                as_imagine(model, steps), test, model.spec, settings, tracked_colours=colours
            ).to_json()
            for steps in config.sampler_steps
        }
        self.scores.parent.mkdir(exist_ok=True)
        files.write_json(self.scores, scores)
