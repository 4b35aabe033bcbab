"""The entangled world model as the probes see it.

Axes: B clips, T frames of a clip, K frames of each that are denoised, F = B K, W frames of the
window, N tokens of a frame, M values of a packed frame, H heads, C width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.model import flow
from scd_wm.model.blocks import Attend
from scd_wm.model.entangled import EntangledWorldModel, KeysAndValues
from scd_wm.model.frames import Base
from scd_wm.model.world_model import WorldModel
from scd_wm.probe.protocol import ProbedAttend, ProbedFrames, attend_plainly


class EntangledDiffuser:
    """Denoises frames that all see a full window of clean ones.

    Args:
        model: In evaluation mode, by the plain engine.
    """

    def __init__(self, model: EntangledWorldModel) -> None:
        self.model = model
        self.blocks: list[nn.Module] = list(model.network.blocks)
        self.tokens = slice(0, model.layout.num_tokens)  # without the outcome's query
        self.history = model.config.window
        self.grid = _grid(model)

    def read(self, clip: Clip) -> EntangledFrames:
        """Read batched clips of W + K frames, to denoise the last K of each."""
        return EntangledFrames(self.model, clip)


def as_diffuser(model: WorldModel, name: str) -> EntangledDiffuser:
    """Return a world model of ours as what can be probed.

    Raises:
        ValueError: If it is an SCD model. Only its decoder runs at every step, and by construction
            that sees no past: both what the probes look for and the split are built in.
    """
    if not isinstance(model, EntangledWorldModel):
        raise ValueError(
            f"{name} is a model of arch={model.config.arch!r}, which is split already: its encoder "
            "runs once per frame and its decoder sees no past, so there is nothing to probe; give "
            "a run trained with arch=entangled"
        )
    return EntangledDiffuser(model)


@dataclass(frozen=True)
class _Context:
    """What the denoiser knows of the frames' past, with an attention that is asked of a probe."""

    action: Tensor  # (F, D)
    last: Tensor  # (F, M)
    table: Tensor  # (2, F, N + 1, C)
    kept: list[KeysAndValues]  # per layer, (F, W N, H, C)
    lags: Tensor  # (W N + N + 1,) how many frames back each key is
    ask: ProbedAttend = attend_plainly

    def join(self, noisy: Tensor) -> Tensor:
        """Return the noisy tokens: the history is seen by attention only."""
        return noisy

    def attend(self, layer: int) -> Attend:
        """Return how noisy frames, (F, N + 1, H, C), attend in a layer."""
        return partial(self._attend, layer)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        past_keys, past_values = self.kept[layer]
        keys, values = torch.cat([past_keys, k], 1), torch.cat([past_values, v], 1)
        return self.ask(layer, q, keys, values, self.lags)


class EntangledFrames(ProbedFrames):
    """Frames of clips, each with the W clean frames before it.

    Args:
        model: The world model.
        clip: Batched, W + K frames.

    Raises:
        ValueError: If the clips have no frame after W.
    """

    def __init__(self, model: EntangledWorldModel, clip: Clip) -> None:
        window = model.config.window
        if clip.num_frames <= window:
            raise ValueError(f"clips must have more than {window} frames, got {clip.num_frames}")
        self.model = model
        sequence = model.sequence(clip)
        history = sequence.packed[:, :-1]
        full = slice(window - 1, None)  # the frames read last of all windows that are whole
        self.base: Base = model.base(history[:, full], sequence.valid[:, :-1][:, full]).flatten()
        target = self.base.encode(_join(sequence.packed[:, 1:][:, full]))
        last = _join(sequence.packed[:, :-1][:, full])
        super().__init__(target, self.base.encode(last))
        valid = model.layout.value_valid(sequence.valid)
        self.valid = _join(valid[:, 1:][:, full])  # (F, M) bool
        read = model.contexts(sequence, history, None)
        by_frame = rearrange(read.table, "two (b t) n c -> two b t n c", b=len(history))
        num_tokens, net = model.layout.num_tokens, model.network
        past = torch.arange(window, 0, -1).repeat_interleave(num_tokens)
        own = past.new_zeros(num_tokens + len(net.query))
        self.context = _Context(
            action=_join(net.action(sequence.action, sequence.action_valid)[:, full]),
            last=last,
            table=by_frame[:, :, full].flatten(1, 2),
            kept=[(_windows(k, window), _windows(v, window)) for k, v in read.kept],
            lags=torch.cat([past, own]).to(history.device),
        )

    def denoise(self, noisy: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        """Return the predicted sample, pixels within their range; see `ProbedFrames.denoise`."""
        return self.model.predicted(self._raw(noisy, level, attend), noisy, level, self.base)

    def _raw(self, noisy: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        context = replace(self.context, ask=attend)
        denoiser = self.model.denoiser
        levels = noisy.new_full((len(noisy),), level)
        modulation = denoiser.modulate(denoiser.condition(levels, context.action))
        return self.model.evaluate(noisy, level, modulation, context)[0]

    def loss(self, noisy: Tensor, eps: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        """Return the training loss of every frame but for its outcomes, (F,)."""
        raw = self._raw(noisy, level, attend)
        error = (raw - self.model.raw_of(self.target, noisy, level, self.base)).square()
        if self.model.config.prediction == "sample":
            error = error * flow.sample_loss_weight(noisy.new_tensor([level]), self.base.scale)
        config = self.model.config
        return self._mean(error, {True: config.image_weight, False: config.vector_weight})

    def error(self, sample: Tensor) -> Tensor:
        """Return squared errors in units of the mean squared change between frames, (F,).

        A mean per camera and vector, and the mean of those: the last frame copied has about 1.
        """
        error = self.base.decode(sample) - self.base.decode(self.target)
        error = (error / self.model.layout.delta_std).square()
        return self._mean(error, {True: 0.5, False: 0.5}) / self._share()

    def _share(self) -> float:
        kinds = {s.is_image for s in self.model.layout.segments}
        return 0.5 * len(kinds)

    def _mean(self, error: Tensor, weights: dict[bool, float]) -> Tensor:
        """Sum means over images and over vectors, by weight, of every frame, (F,)."""
        total = error.new_zeros(len(error))
        for is_image, weight in weights.items():
            segments = [s for s in self.model.layout.segments if s.is_image == is_image]
            for s in segments:
                valid = self.valid[:, s.values]
                mean = (error[:, s.values] * valid).sum(1) / valid.sum(1).clamp(min=1)
                total = total + mean * (weight / len(segments))
        return total


def _join(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _windows(x: Tensor, window: int) -> Tensor:
    """Return the `window` frames up to each that has as many, (F, W N, H, C), from (B, T, ...)."""
    return rearrange(x.unfold(1, window, 1), "b k n h c w -> (b k) (w n) h c")


def _grid(model: EntangledWorldModel) -> tuple[int, int] | None:
    """Return rows and columns of patches of the first camera, which comes first; None without."""
    for camera in model.spec.cameras.values():
        return camera.height // model.config.patch_size, camera.width // model.config.patch_size
    return None
