"""What a run reports while it trains: log.jsonl, TensorBoard, a progress bar.

log.jsonl has a line of numbers for every `log_every` steps: the step, the means since the line
before of loss, its parts and the norm of the gradient, and rates; at evaluated steps also losses
on held-out clips.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scd_wm.progress import progress_bar
from scd_wm.training import files
from scd_wm.training.config import TrainConfig
from scd_wm.training.state import TrainState

LOG = "log.jsonl"


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, without a last one that was cut short.

    Raises:
        FileNotFoundError: If the run has no log.
    """
    path = Path(run) / LOG
    if not path.is_file():
        raise FileNotFoundError(f"no {LOG} in {run}")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Reporter:
    """Writes the log and moves the progress bar.

    Args:
        run: The run folder.
        config: How the run trains.
        state: At the start; log lines of later steps, from before a kill, are dropped.
        is_main: Whether this process writes; the others only join in taking means.
        tensorboard: Also write TensorBoard events, to the folder `tensorboard`.
    """

    def __init__(
        self, run: Path, config: TrainConfig, state: TrainState, is_main: bool, tensorboard: bool
    ) -> None:
        self._config, self._is_main = config, is_main
        self._first = (state.step, state.elapsed_s)
        self._window = _Window(state.elapsed_s)
        self._bar = _bar(config, state, is_main)
        self._events = _open_tensorboard(run, state.step) if tensorboard and is_main else None
        if is_main:
            _drop_later_lines(run / LOG, state.step)
            self._file = (run / LOG).open("a", encoding="utf-8")

    def is_due(self, step: int) -> bool:
        """Say whether the log gets a line at a step."""
        return step % self._config.log_every == 0 or step == self._config.steps

    def add(self, state: TrainState, values: Mapping[str, float]) -> None:
        """Take in the values of a step and move the bar."""
        self._window.add(values)
        limit = self._config.minutes
        done = state.step if limit is None else min(state.elapsed_s, 60 * limit)
        self._bar.set_description_str(self._text(state), refresh=False)
        self._bar.update(done - self._bar.n)

    def means(self, state: TrainState) -> dict[str, float]:
        """Return the means since the last call, with rates."""
        window, self._window = self._window, _Window(state.elapsed_s)
        steps_per_s = window.num_steps / max(state.elapsed_s - window.start_s, 1e-9)
        return {
            **window.means(),
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            "ema_decay": state.ema.decay_at(state.step - 1),
            "elapsed_s": state.elapsed_s,
            "steps_per_s": steps_per_s,
            "frames_per_s": steps_per_s * self._frames_per_step,
        }

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line to the log."""
        if not self._is_main:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files and leave the bar as it is."""
        self._bar.close()
        if self._is_main:
            self._file.close()
        if self._events:
            self._events.close()

    @property
    def _frames_per_step(self) -> int:
        return self._config.batch_size * self._config.num_frames

    def _text(self, state: TrainState) -> str:
        step, elapsed_s = self._first
        rate = (state.step - step) / max(state.elapsed_s - elapsed_s, 1e-9)
        loss = self._window.means()["loss"]
        frames = rate * self._frames_per_step
        return f"step {state.step}  loss {loss:.4f}  {rate:.2f} steps/s  {frames:.0f} frames/s"


class _Window:
    """Sums since the last line of the log, which began at `start_s` of training."""

    def __init__(self, start_s: float) -> None:
        self.start_s, self.num_steps = start_s, 0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float]) -> None:
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in values.items()}
        self.num_steps += 1

    def means(self) -> dict[str, float]:
        return {name: total / self.num_steps for name, total in self._sums.items()}


def _bar(config: TrainConfig, state: TrainState, is_shown: bool) -> tqdm:
    """Return a bar over steps, or over seconds where minutes limit the run."""
    limit_s = None if config.minutes is None else 60 * config.minutes
    return progress_bar(
        total=config.steps if limit_s is None else limit_s,
        initial=state.step if limit_s is None else min(state.elapsed_s, limit_s),
        bar_format="{percentage:3.0f}%|{bar:20}| {desc}  [{elapsed}<{remaining}]",
        disable=not is_shown,
    )


def _drop_later_lines(path: Path, step: int) -> None:
    lines = read_log(path.parent) if path.is_file() else []
    kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= step]
    files.write_text(path, "".join(kept))


def check_tensorboard() -> None:
    """Raise ModuleNotFoundError, which says how to install it, if there is no TensorBoard."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            "TensorBoard is not installed: pip install 'scd-wm[tensorboard]'", name="tensorboard"
        )


def _open_tensorboard(run: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
