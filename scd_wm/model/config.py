"""The configuration of a world model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scd_wm.model.rope import axis_split

_AT_LEAST_1 = (
    *("dim", "num_heads", "encoder_layers", "decoder_layers", "patch_size", "window"),
    *("mlp_ratio", "action_layers", "num_steps", "draws"),
)
_AT_LEAST_0 = (
    *("refine_channels", "interface_noise", "history_noise", "self_rollouts", "self_forcing"),
    "resume_layer",
    *("image_weight", "vector_weight", "outcome_weight"),
)
_CHOICES = {
    "arch": ("scd", "entangled"),
    "context_mode": ("prefix", "token_concat", "resume"),
    "vector_noise": ("value", "change"),
    "prediction": ("sample", "velocity"),
    "solver": ("euler", "heun"),
}


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Sizes and choices of the model; sizes that come from data are in the spec.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    arch: str = "scd"  # or "entangled": all layers over the whole history at every sampler step
    dim: int  # width D of all layers
    num_heads: int  # divides dim; dim / num_heads is a multiple of 16
    encoder_layers: int  # run once per frame; "entangled" has encoder_layers + decoder_layers
    decoder_layers: int  # run at every sampler step
    patch_size: int = 8  # side of a patch, pixels or latent cells; its values should not exceed dim
    window: int = 4  # frames W of history that are attended to, the newest included
    mlp_ratio: int = 4  # hidden width of the MLPs over dim
    action_layers: int = 2  # of the action embedding; 1 for one-hot actions
    open_gates: bool = False  # blocks act from the first step on, in place of adaLN-Zero's identity
    refine_channels: int = 0  # of the convolutional head that draws pixels; 0 for none
    rope_theta: float = 10_000.0  # base of the rotary frequencies
    context_mode: str = "prefix"  # or "token_concat", the paper's; or "resume"; of "scd"
    fed_level: float | None = None  # least noise level of the frame to come that the encoder sees
    resume_layer: int = 0  # decoder layers on the noisy frame alone, before c; of "resume"
    vector_noise: str = "value"  # what of a vector is noised; or "change", that from the last frame
    prediction: str = "sample"  # or "velocity", the paper's
    residual: bool = True  # sample prediction is relative to the last frame; noised changes always
    num_steps: int = 2  # default sampler steps T
    solver: str = "euler"  # default solver; or "heun", of second order, 2 T - 1 evaluations
    guidance: float = 1.0  # g of the sampler, see guidance.py; 1 for none; of "scd"
    guidance_noise: float = 0.5  # of its context, in deviations of each token's values
    draws: int = 1  # noise draws K per encoder pass in training
    full_noise_fraction: float = 0.2  # share of noise levels at s = 1, where sampling starts
    least_visible: float = 0.0  # share of x_s that a sample prediction sees at s = 1, see few_steps
    interface_noise: float = 0.05  # deviation of the noise on the normed context; of "scd"
    one_copy: bool = False  # of "entangled": noisy frames are each other's history in training
    clean_fraction: float = 0.1  # share of frames that are clean history in `one_copy`
    history_noise: float = 0.0  # most noise on a frame of history, in deviations of the residual
    self_rollouts: int = 0  # training passes that replace history by the model's own predictions
    self_forcing: int = 0  # steps that gradients go back, where history is a rollout; 0 for none
    image_weight: float = 1.0  # of the mean image loss in the sum
    vector_weight: float = 1.0  # of the mean vector loss
    outcome_weight: float = 0.1  # of the mean outcome loss

    def __post_init__(self) -> None:
        for name in _AT_LEAST_1:
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in _AT_LEAST_0:
            self._check(name, getattr(self, name) >= 0, "at least 0")
        self._check("num_heads", self.dim % self.num_heads == 0, f"a divisor of {self.dim}")
        axis_split(self.dim // self.num_heads)
        for name, choices in _CHOICES.items():
            self._check(name, getattr(self, name) in choices, f"one of {choices}")
        for name in ("full_noise_fraction", "least_visible", "clean_fraction"):
            self._check(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        is_entangled = self.arch == "entangled"
        is_possible = self.guidance == 1 or (1 < self.guidance < math.inf and not is_entangled)
        self._check("guidance", is_possible, '1, or above and finite with arch="scd"')
        self._check("guidance_noise", 0 < self.guidance_noise < math.inf, "above 0 and finite")
        self._check("one_copy", is_entangled or not self.one_copy, 'false unless arch="entangled"')
        for name in ("history_noise", "self_forcing"):  # there noisy frames are the history
            self._check(name, not (self.one_copy and getattr(self, name)), "0 with one_copy=true")
        is_absolute = self.vector_noise == "value"
        self._check("vector_noise", is_absolute or not self.one_copy, '"value" with one_copy=true')
        is_forced = self.self_forcing > 0  # all frames that self_rollouts would imagine
        self._check("self_rollouts", not (is_forced and self.self_rollouts), "0 with self_forcing")
        self._check_fed()

    def _check_fed(self) -> None:
        level, is_resumed = self.fed_level, self.context_mode == "resume"
        is_possible = level is None or (0 <= level <= 1 and self.arch == "scd")
        self._check("fed_level", is_possible, 'none, or between 0 and 1 with arch="scd"')
        is_possible = not is_resumed or level is not None or self.arch != "scd"
        self._check("context_mode", is_possible, '"resume" only where fed_level is given')
        deepest = self.decoder_layers if is_resumed else 0
        is_possible = self.resume_layer <= deepest
        self._check(
            "resume_layer", is_possible, f"at most {deepest} with these context_mode and layers"
        )

    def _check(self, name: str, is_ok: bool, allowed: str) -> None:
        if not is_ok:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
