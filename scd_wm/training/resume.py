"""What a run folder holds before training: nothing, or a run to go on with, as it was begun."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from scd_wm.datasets.options import DataOptions
from scd_wm.model.config import WorldModelConfig
from scd_wm.spec import Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import CONFIG, checkpoints
from scd_wm.training.config import FREE_ON_RESUME, TrainConfig
from scd_wm.training.recipes import Recipe
from scd_wm.training.run_data import differences

AS_IT_IS = DataOptions()
SETTINGS = dict.fromkeys(("preset", "init", "model", "train", "data"))  # compared in this order


def check_out(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return the configuration of the run to go on with, or None where there is none yet.

    Settings that came after the run was begun have their defaults: they leave things as they were.

    Raises:
        FileExistsError: If `out` is something else, or has checkpoints and `resume` is False.
        FileNotFoundError: If it is not there, with `resume`.
        ValueError: If its configuration is not of this version.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; choose another folder")
    if resume and not out.is_dir():
        raise FileNotFoundError(f"nothing to resume: no folder {out}")
    is_run = (out / CONFIG).is_file()
    if out.is_dir() and not is_run and any(not p.name.startswith(".") for p in out.iterdir()):
        raise FileExistsError(
            f"{out} is not a run folder; it has {files.describe_folder(out)}; choose another folder"
        )
    found = checkpoints(out)
    if found and not resume:
        raise FileExistsError(
            f"{out} holds a run with checkpoints up to {found[-1].name}; resume it (--resume) or "
            "choose another folder"
        )
    return _in_full(files.read_json(out / CONFIG), out) if resume and is_run else None


def _in_full(stored: Mapping[str, Any], out: Path) -> dict[str, Any]:
    try:
        data = stored["data"]
        options = DataOptions.from_json(data.get("options", {}))
        config = {
            **stored,
            "model": asdict(WorldModelConfig(**stored["model"])),
            "spec": Spec.from_json(stored["spec"]).to_json(),
            "train": asdict(TrainConfig(**stored["train"])),
            "data": {**data, "options": options.to_json()},
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{out / CONFIG} is not of a run of this version: {error}") from None
    return dict(json.loads(json.dumps(config)))


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds where the user says nothing: of a run to go on with, its own settings."""

    preset: str = "tiny"
    init: str | None = None
    options: DataOptions = AS_IT_IS
    held_out: float | Collection[str] = 0.1  # share of the episodes, or their names
    model: WorldModelConfig | None = None  # None: that of the initial model, or of the preset
    train: TrainConfig | None = None  # None: that of the preset

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Defaults:
        """Return those of what `check_out` has found."""
        if stored is None:
            return cls()
        return cls(
            preset=stored["preset"],
            init=stored["init"],
            options=DataOptions.from_json(stored["data"]["options"]),
            held_out=stored["data"]["held_out"],
            model=WorldModelConfig(**stored["model"]),
            train=TrainConfig(**stored["train"]),
        )

    def fill(self, options: DataOptions | None) -> DataOptions:
        """Return options of data, with these in place of what they leave as it is."""
        said = {f.name: getattr(options or AS_IT_IS, f.name) for f in fields(AS_IT_IS)}
        unsaid = asdict(AS_IT_IS)
        return replace(self.options, **{k: v for k, v in said.items() if v != unsaid[k]})

    def recipe(self, preset: Recipe, initial: WorldModelConfig | None) -> Recipe:
        """Return the model and training to change by what the user says."""
        model = self.model or initial or preset.model
        return replace(preset, model=model, train=self.train or preset.train)


def check_same(stored: dict[str, Any], config: dict[str, Any], out: Path) -> None:
    """Raise ValueError if a resumed run would change what its weights depend on."""

    def fixed(c: dict[str, Any]) -> dict[str, Any]:
        training = {k: v for k, v in c["train"].items() if k not in FREE_ON_RESUME}
        data = {k: v for k, v in c["data"].items() if k not in ("path", "parts")}
        kept = {k: v for k, v in (c.get("autoencoder") or {}).items() if k != "source"}
        same = {**c, "train": training, "autoencoder": kept, "versions": None}
        return {**SETTINGS, **same, "data": {"options": None, **data}}

    changed = differences(fixed(stored), fixed(config))
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ValueError(
            f"cannot resume {out} with other settings: {changed[0]}{more}; it keeps its own "
            "where you give none, or start from its weights in another folder (--init)"
        )
