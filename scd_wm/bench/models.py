"""The models that are measured, made from sizes alone, and what they are fed.

Weights are as initialised and data are random: neither changes how long anything takes.

Axes: B batch, F history frames, A values of an action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from scd_wm.bench import cost
from scd_wm.bench.options import BenchOptions
from scd_wm.clip import Clip
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training import files
from scd_wm.training.checkpoint import CONFIG, build_model, check_folder

MODES = ("prefix", "token_concat", "entangled")
ACTION_DIM = 4
PATCH = 8  # pixels
HEAD_WIDTHS = (64, 32, 16)  # the first that divides the width


def check_modes(modes: tuple[str, ...]) -> None:
    """Raise ValueError unless all modes are known and there is one."""
    if not modes or not {*modes} <= {*MODES}:
        raise ValueError(f"modes must be some of {MODES}, got {modes}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model in a measurement."""

    spec: Spec
    config: WorldModelConfig
    mode: str  # of MODES, or another that a run has

    @property
    def name(self) -> str:
        """Its name in tables."""
        c = self.config
        if self.mode == "entangled":
            return f"entangled {c.encoder_layers + c.decoder_layers}"
        return f"SCD {self.mode} {c.encoder_layers}+{c.decoder_layers}"

    @property
    def num_tokens(self) -> int:
        """Tokens P of a frame."""
        return FrameLayout(self.spec, self.config.patch_size).num_tokens

    @property
    def is_in_cost_model(self) -> bool:
        """Whether the cost model knows how such a model makes a frame."""
        c = self.config
        return (
            self.mode in MODES and c.fed_level is None and c.solver == "euler" and c.guidance == 1
        )

    @property
    def sizes(self) -> cost.Sizes:
        """Its sizes for the cost model."""
        c = self.config
        return cost.Sizes(
            mode=self.mode,
            dim=c.dim,
            tokens=self.num_tokens,
            history=c.window,
            steps=c.num_steps,
            encoder_layers=c.encoder_layers,
            decoder_layers=c.decoder_layers,
            mlp_ratio=c.mlp_ratio,
        )

    @property
    def shape(self) -> str:
        """Its sizes as text, but for the layers."""
        c = self.config
        outcome = f"+{min(len(self.spec.outcomes), 1)} for outcomes"
        return f"d={c.dim} P={self.num_tokens}{outcome} F={c.window} T={c.num_steps}"

    def with_config(self, **changes: object) -> Entry:
        """Return the entry with other settings."""
        return replace(self, config=replace(self.config, **changes))  # type: ignore[arg-type]  # by name


def entry(spec: Spec, config: WorldModelConfig, mode: str) -> Entry:
    """Return a model of some sizes as an entry of a mode."""
    if mode == "entangled":
        return Entry(spec=spec, config=replace(config, arch="entangled"), mode=mode)
    return Entry(spec=spec, config=replace(config, context_mode=mode), mode=mode)


def run_entries(run: str | Path, num_steps: int | None = None) -> list[Entry]:
    """Return the model of a run or export, and beside it the entangled one of its sizes.

    Args:
        run: Where it is, or the name of a shipped one.
        num_steps: Sampler steps; None takes the model's own.

    Raises:
        FileNotFoundError, ValueError: If there is none.
    """
    folder = check_folder(run)
    model = build_model(files.read_json(folder / CONFIG), folder / CONFIG)
    spec, own = model.spec, replace(model.config, num_steps=num_steps or model.config.num_steps)
    if own.arch == "entangled":
        return [Entry(spec=spec, config=own, mode="entangled")]
    plain = replace(own, context_mode="prefix", fed_level=None, resume_layer=0, guidance=1)
    return [Entry(spec=spec, config=own, mode=own.context_mode), entry(spec, plain, "entangled")]


def build(entry: Entry, options: BenchOptions) -> WorldModel:
    """Return the model of an entry, on the device and in the precision of the options."""
    torch.manual_seed(0)
    model = build_world_model(entry.spec, entry.config)
    return model.to(options.device, options.torch_dtype)


def compile_decoder(model: WorldModel) -> None:
    """Let torch compile what runs at every sampler step; the first calls then take long."""
    model.denoiser.compile()


def in_float32(options: BenchOptions) -> BenchOptions:
    """Return the options with weights and data in float32."""
    return replace(options, dtype="float32")


def num_parameters(model: nn.Module) -> int:
    """Return how many numbers a model has learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_config(
    *, dim: int, layers: tuple[int, int], window: int, num_steps: int
) -> WorldModelConfig:
    """Return a model of our kind by its sizes.

    Raises:
        ValueError: If the width is not a multiple of 16, or a size is below 1.
    """
    widths = [width for width in HEAD_WIDTHS if dim >= width and dim % width == 0]
    if not widths:
        raise ValueError(f"dim must be a multiple of {HEAD_WIDTHS[-1]}, got {dim}")
    return WorldModelConfig(
        dim=dim,
        num_heads=dim // widths[0],
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        patch_size=PATCH,
        window=window,
        num_steps=num_steps,
        open_gates=True,
    )


def camera_world(tokens: int) -> Spec:
    """Return a world of one camera of `tokens` patches of 8 x 8 pixels, as square as can be.

    Raises:
        ValueError: If there are none.
    """
    if tokens < 1:
        raise ValueError(f"tokens must be 1 or more, got {tokens}")
    rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)
    camera = CameraSpec(height=rows * PATCH, width=tokens // rows * PATCH)
    return Spec(
        cameras={"camera": camera}, action=VectorSpec.unit(ACTION_DIM), outcomes=("reward",)
    )


def history(entry: Entry, batch: int, options: BenchOptions, num_frames: int) -> Clip:
    """Return random clips, (B, F), on the device and in the precision of the options."""
    random, shape = torch.Generator().manual_seed(0), (batch, num_frames)
    spec = entry.spec
    images = {name: _image(c, shape, random) for name, c in spec.cameras.items()}
    vectors = {k: torch.randn(*shape, v.dim, generator=random) for k, v in spec.vectors.items()}
    outcome = {name: torch.zeros(shape) for name in spec.outcomes}
    clip = Clip(
        images=images,
        vectors=vectors,
        outcome=outcome,
        actions=torch.randn(batch, num_frames - 1, spec.action.dim, generator=random),
        valid={k: torch.ones(shape, dtype=torch.bool) for k in (*images, *vectors, *outcome)},
        action_valid=torch.ones(batch, num_frames - 1, dtype=torch.bool),
    )
    dtype = options.torch_dtype
    clip = clip.map(lambda x: x.to(dtype) if x.is_floating_point() else x)
    return clip.to(options.device)


def _image(camera: CameraSpec, shape: tuple[int, int], random: torch.Generator) -> Tensor:
    size = (*shape, camera.height, camera.width, camera.channels)
    if camera.kind == "latent":
        return torch.randn(size, generator=random)
    return torch.randint(0, 256, size, generator=random, dtype=torch.uint8)


def actions(entry: Entry, batch: int, options: BenchOptions) -> Tensor:
    """Return an action a row, (B, A)."""
    return torch.zeros(
        batch, entry.spec.action.dim, dtype=options.torch_dtype, device=options.device
    )
