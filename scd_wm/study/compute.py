"""Equal training compute: how many steps of an arm cost as much as the reference's."""

from __future__ import annotations

from collections.abc import Sequence

from scd_wm.bench.counting import count_flops
from scd_wm.datasets.loader import ClipLoader
from scd_wm.study.runs import WorldData
from scd_wm.training.noise_seeds import row_seeds
from scd_wm.training.recipes import Recipe, recipe
from scd_wm.training.run_data import split_data
from scd_wm.training.run_setup import build, configure, open_data

COUNTED_STEPS = 4  # they differ in how many rows draw passes on the model's own rollouts


def settings(preset: str, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of a run, but for its steps.

    Raises:
        ValueError: If an override is wrong.
    """
    return configure(recipe(preset), None, overrides, steps=1, minutes=None, seed=0)


def step_flops(data: WorldData, preset: str, overrides: Sequence[str]) -> float:
    """Return the operations of a training step, a mean over some: forward and backward.

    Matrix products, convolutions and attention are counted, as torch runs them; the optimiser and
    everything by elements is not.

    Args:
        data: Of the world.
        preset: Name of a recipe.
        overrides: Changes to it.
    """
    chosen = settings(preset, overrides)
    part, _ = split_data(open_data(data.train, data.options, chosen, None), data.held_out)
    model = build(part.spec(), chosen, None).train()
    loader = ClipLoader(part, chosen.train.num_frames, chosen.train.batch_size, seed=0)

    def steps() -> None:
        for step in range(COUNTED_STEPS):
            seeds = row_seeds(0, loader.sample_ids(step))
            model(loader.batch(step), seeds)[0].backward()

    return count_flops(steps) / COUNTED_STEPS


def equal_steps(reference_steps: int, reference_flops: float, flops: float) -> int:
    """Return the steps that take the same operations as the reference's, 1 at least."""
    return max(1, round(reference_steps * reference_flops / flops))
