"""Policies that robomimic trained, acting in many environments at once.

Read are checkpoints of robomimic 0.3 and, where 0.3 can build their networks, of 0.5: behaviour
cloning by an MLP, an RNN or a transformer, with or without Gaussians or mixtures of them. They are
read without unpickling anything but tensors and plain values.

What differs from robomimic's own `RolloutPolicy`: images are taken as environments here show them,
(H, W, C) uint8; B environments act at once; what is drawn depends on the seed of `reset` and the
row alone; and 0.5's normalised actions are put back into the units of the data, which 0.3 forgets.

Axes: B environments, T stacked frames, H height, W width, C channels, D values of a vector, M modes
of a mixture, A values of an action.
"""

from __future__ import annotations

import json
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scd_wm.envs.names import find_name
from scd_wm.robomimic_setup import ObsRegistry, load_robomimic, quiet

ENTRIES = ("model", "config", "algo_name", "shape_metadata")  # of a checkpoint, in both versions
MODALITIES = ("low_dim", "rgb")  # that environments here show
MODULES = ("robomimic.algo", "robomimic.utils.file_utils", "robomimic.utils.obs_utils")
WHAT_ACTS = "behaviour cloning (bc) by an MLP, an RNN or a transformer does"

Scale: TypeAlias = tuple[Tensor, Tensor]
"""What is subtracted from a value, and what the rest is divided by; (1, ...) each, float64."""


class RobomimicPolicy:
    """A checkpoint of robomimic as a `BatchedPolicy`.

    Args:
        checkpoint: As `read_checkpoint` returns it; left as it is.
        device: Where the networks run.
        source: What messages call it.

    Raises:
        ModuleNotFoundError: If robomimic is not installed.
        ValueError: If it is of an algorithm or has observations that cannot act here.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        device: str | torch.device = "cpu",
        source: str = "the checkpoint",
    ) -> None:
        load_robomimic(*MODULES)
        import robomimic.utils.file_utils as file_utils

        self.source, self.device = source, torch.device(device)
        self.config, _ = file_utils.config_from_checkpoint(
            algo_name=_known_algorithm(checkpoint["algo_name"], source), ckpt_dict=checkpoint
        )
        _check_supported(self.config, source)
        self.registry = ObsRegistry.of(self.config)
        shapes = checkpoint["shape_metadata"]
        self.action_dim = int(shapes["ac_dim"])
        names = self.config.all_obs_keys
        images = set(self.config.observation.modalities.obs.rgb)
        sizes = {name: tuple(shapes["all_shapes"][name]) for name in names}
        self.cameras = tuple(name for name in names if name in images)
        self.observation_shapes: dict[str, tuple[int, ...]] = {
            name: (*size[1:], size[0]) if name in images else size for name, size in sizes.items()
        }
        self.num_stacked = int(self.config.train.frame_stack)
        self._scales = _observation_scales(checkpoint.get("obs_normalization_stats"), self.device)
        self._action_scale = _action_scale(checkpoint, self.config, source)
        self.algo = self._build(checkpoint, sizes)
        _draw_by_row(self.algo.nets["policy"], self._draw)
        self.reset(0)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> RobomimicPolicy:
        """Load a checkpoint, such as `model_epoch_600.pth`.

        Raises:
            FileNotFoundError: If there is no such file.
            ModuleNotFoundError: If robomimic is not installed.
            ValueError: If it is no checkpoint of robomimic, or one that cannot act here.
        """
        return cls(read_checkpoint(path), device, str(path))

    def reset(self, seed: int) -> None:
        """Begin episodes; row i draws what it would draw alone with seed `seed` + i."""
        self._seed = seed
        self._frames: deque[dict[str, Tensor]] = deque(maxlen=self.num_stacked)
        self._randoms: list[torch.Generator] = []
        self.algo.set_eval()
        self.algo.reset()

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions, (B, A) float32, in the units of the data.

        Args:
            observation: Cameras (B, H, W, C) uint8 and vectors (B, D), by name; what the policy
                does not read is left alone.

        Raises:
            ValueError: If an entry is missing, or has another size or dtype.
        """
        frame = {name: self._read(name, observation) for name in self.observation_shapes}
        self._frames.extend([frame] * (1 if self._frames else self.num_stacked))
        seen = frame
        if self.num_stacked > 1:
            seen = {k: torch.stack([f[k] for f in self._frames], dim=1) for k in frame}
        with self.registry.active(), torch.inference_mode():
            actions = self.algo.get_action(obs_dict=seen).float().cpu().numpy()
        return self._in_units(actions)

    def rollout_policy(self) -> Any:
        """Return robomimic's own `RolloutPolicy` of the same networks, for its `run_rollout`.

        It draws by the seed of `reset`, applies 0.5's normalisation of actions, and leaves
        robomimic's registry as it found it. One environment, one of the two at a time. Its
        `cpu_s` counts the CPU seconds of its calls.
        """
        from robomimic.algo import RolloutPolicy

        policy, stats = self, _rollout_stats(self._scales)

        class Rollout(RolloutPolicy):  # type: ignore[misc]  # robomimic has no types
            cpu_s = 0.0

            def __call__(self, ob: Mapping[str, Any], goal: Any = None) -> np.ndarray:
                started = time.process_time()
                with policy.registry.active(), torch.inference_mode():
                    action = policy._in_units(super().__call__(dict(ob), goal))
                self.cpu_s += time.process_time() - started
                return action

        return Rollout(self.algo, obs_normalization_stats=stats)

    def _build(self, checkpoint: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
        """Return robomimic's algorithm with the weights of a checkpoint."""
        from robomimic.algo import algo_factory

        weights = checkpoint["model"].get("nets", checkpoint["model"])  # 0.5 has optimizers beside
        with self.registry.active(), quiet(), torch.random.fork_rng(devices=[]):
            algo = algo_factory(
                checkpoint["algo_name"],
                self.config,
                obs_key_shapes={name: list(size) for name, size in sizes.items()},
                ac_dim=self.action_dim,
                device=self.device,
            )
        try:
            algo.deserialize(weights)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{self.source}: its weights do not fit the networks that the installed robomimic "
                f"builds for it: {why}"
            ) from None
        return algo

    def _read(self, name: str, observation: Mapping[str, np.ndarray]) -> Tensor:
        """Return an entry as the networks read it: images (B, C, H, W), 0 to 1; normalised."""
        found = find_name(name, observation)
        if found is None:
            raise ValueError(
                f"the policy reads {name!r}, which is not observed; there are {sorted(observation)}"
            )
        values, shape = np.asarray(observation[found]), self.observation_shapes[name]
        if values.ndim != 1 + len(shape) or values.shape[1:] != shape:
            raise ValueError(f"{name!r} must be (B, {str(shape)[1:]}, got {values.shape}")
        if name in self.cameras and values.dtype != np.uint8:
            raise ValueError(f"{name!r} must be uint8, 0 to 255, got {values.dtype}")
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
        if name in self.cameras:
            tensor = (tensor.float() / 255).movedim(-1, 1)
        if name in self._scales:
            offset, scale = self._scales[name]
            tensor = (tensor - offset) / scale
        return tensor.float()

    def _in_units(self, actions: np.ndarray) -> np.ndarray:
        """Return actions in the units of the data, (..., A) float32."""
        if self._action_scale is None:
            return actions
        offset, scale = self._action_scale
        return (actions * scale + offset).astype(np.float32)

    def _draw(self, distribution: Any) -> Tensor:
        """Draw from a network's distribution over (B, ...), each row by its own generator."""
        if not self._randoms:
            rows = range(distribution.batch_shape[0])
            self._randoms = [torch.Generator().manual_seed(self._seed + row) for row in rows]
        if hasattr(distribution, "mixture_distribution"):
            return _draw_mixture(distribution, self._randoms)
        return distribution.mean + distribution.stddev * _normal(distribution.mean, self._randoms)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of robomimic as tensors and plain values; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError),
        *(TypeError, AttributeError),
    ) as error:
        why = str(error).split("\n", 1)[0][:200]
        raise ValueError(f"{path} is no checkpoint of robomimic that can be read: {why}") from None
    missing = [e for e in ENTRIES if not isinstance(checkpoint, dict) or e not in checkpoint]
    if missing:
        raise ValueError(f"{path} is no checkpoint of robomimic: it has no {missing}")
    shapes = checkpoint["shape_metadata"]
    wanted = ("ac_dim", "all_shapes")
    if not isinstance(shapes, Mapping) or any(name not in shapes for name in wanted):
        raise ValueError(f"{path} is no checkpoint of robomimic: shape_metadata lacks {wanted}")
    try:
        json.loads(checkpoint["config"])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is no checkpoint of robomimic: its config is not JSON: {error}"
        ) from None
    return checkpoint


def _known_algorithm(name: str, source: str) -> str:
    if name != "bc":
        raise ValueError(f"{source} is of robomimic's {name!r}, which cannot act here; {WHAT_ACTS}")
    return name


def _check_supported(config: Any, source: str) -> None:
    """Raise ValueError if a policy needs what is not there."""
    algo, modalities = config.algo, config.observation.modalities
    if "vae" in algo and algo.vae.enabled:
        raise ValueError(f"{source} is a BC-VAE, which cannot act here; {WHAT_ACTS}")
    if config.use_goals:
        raise ValueError(f"{source} wants pictures or values of a goal, which nothing gives here")
    other = {name: list(keys) for name, keys in modalities.obs.items() if name not in MODALITIES}
    if any(other.values()):
        raise ValueError(f"{source} reads {other}; here are images (rgb) and vectors (low_dim)")
    if config.train.frame_stack > 1 and not algo.transformer.enabled:
        raise ValueError(
            f"{source} stacks {config.train.frame_stack} frames without a transformer, which "
            "robomimic's networks do not read either"
        )
    _check_classes(config, source)
    formats = dict(config.train.get("action_config", {}) or {})
    rotated = [key for key, value in formats.items() if (value or {}).get("format") == "rot_6d"]
    if rotated:
        raise ValueError(f"{source} has rotations in six numbers in {rotated}; not converted here")


def _check_classes(config: Any, source: str) -> None:
    """Raise ValueError if a configuration names classes by more than a name.

    Robomimic 0.3 runs these texts as Python.
    """
    for encoder in config.observation.encoder.values():
        named = {**encoder.core_kwargs, "core_class": encoder.core_class}
        named["obs_randomizer_class"] = encoder.obs_randomizer_class
        for key, text in named.items():
            is_name = text is None or (isinstance(text, str) and text.isidentifier())
            if key.endswith("_class") and not is_name:
                raise ValueError(f"{source} has as {key} {text!r}, which is no name of a class")


def _observation_scales(stats: Mapping[str, Any] | None, device: torch.device) -> dict[str, Scale]:
    """Return how observations are normalised; 0.3 calls it mean and std, 0.5 offset and scale."""
    scales = {}
    for name, values in (stats or {}).items():
        offset, scale = ("mean", "std") if "mean" in values else ("offset", "scale")
        pair = (torch.as_tensor(np.asarray(values[k], np.float64)) for k in (offset, scale))
        first, second = (tensor.to(device) for tensor in pair)
        scales[name] = (first, second)
    return scales


def _rollout_stats(scales: Mapping[str, Scale]) -> dict[str, dict[str, np.ndarray]] | None:
    """Return scales as robomimic 0.3 wants them."""
    both = {k: {"mean": a.cpu().numpy(), "std": b.cpu().numpy()} for k, (a, b) in scales.items()}
    return both or None


def _action_scale(
    checkpoint: Mapping[str, Any], config: Any, source: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return offset and scale of actions, (A,) each, of a checkpoint of 0.5 that has them."""
    stats = checkpoint.get("action_normalization_stats")
    if not stats:
        return None
    keys = [key for key in config.train.get("action_keys", None) or stats if key in stats]
    offset, scale = (
        np.concatenate([np.asarray(stats[key][name], np.float64).ravel() for key in keys])
        for name in ("offset", "scale")
    )
    dim = checkpoint["shape_metadata"]["ac_dim"]
    if len(offset) != dim or len(scale) != dim:
        raise ValueError(f"{source} normalises {len(offset)} values of action, but has {dim}")
    return offset, scale


class _DrawnByRow:
    """A distribution that is drawn from by `draw`; all else is its own."""

    def __init__(self, distribution: Any, draw: Callable[[Any], Tensor]) -> None:
        self._distribution, self._by = distribution, draw

    def sample(self) -> Tensor:
        return self._by(self._distribution)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._distribution, name)


def _draw_by_row(network: Any, draw: Callable[[Any], Tensor]) -> None:
    """Make a network draw actions by `draw` and not by torch's global generator."""
    if not hasattr(network, "forward_train"):
        return  # it draws nothing
    distributions = network.forward_train

    def forward_train(*args: Any, **kwargs: Any) -> Any:
        result = distributions(*args, **kwargs)
        if isinstance(result, tuple):  # with the state of an RNN
            return (_DrawnByRow(result[0], draw), *result[1:])
        return _DrawnByRow(result, draw)

    network.forward_train = forward_train


def _draw_mixture(mixture: Any, randoms: list[torch.Generator]) -> Tensor:
    """Draw from Gaussian mixtures over (B, ...), (B, ..., A)."""
    probs = mixture.mixture_distribution.probs  # (B, ..., M)
    normals = mixture.component_distribution.base_dist
    shape = probs.shape[1:-1]
    drawn = torch.stack([torch.rand(shape, generator=random) for random in randoms]).to(probs)
    mode = (probs.cumsum(-1) < drawn[..., None]).sum(-1).clamp(max=probs.shape[-1] - 1)
    index = mode[..., None, None].expand(*mode.shape, 1, normals.loc.shape[-1])
    mean, std = (x.gather(-2, index).squeeze(-2) for x in (normals.loc, normals.scale))
    return mean + std * _normal(mean, randoms)


def _normal(like: Tensor, randoms: list[torch.Generator]) -> Tensor:
    """Return standard normal noise of the shape of `like`, (B, ...)."""
    rows = [torch.randn(like.shape[1:], generator=random) for random in randoms]
    return torch.stack(rows).to(like)
