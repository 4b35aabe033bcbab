"""Separable Causal Diffusion as a world model.

After "Causality in Video Diffusers is Separable from Denoising", Bai et al. 2026, arXiv:2602.10095:

    c_t   = Encoder(o_<=t, a_<=t)                once per frame
    o_t+1 ~ Decoder(x_s, s | c_t, a_t)           T steps, s from 1 to 0

Axes: B batch, T frames, N tokens in a frame, M values of a packed frame, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from scd_wm.model import flow, guidance, noise
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.decoder import DecoderContext, DiffusionDecoder
from scd_wm.model.encoder import CausalEncoder
from scd_wm.model.frames import Frame, NextFrame, Sequence
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec


class SCDWorldModel(WorldModel):
    """A causal encoder that reads history once per frame and a light decoder that renders the next.

    Args:
        spec: What a frame holds.
        config: Sizes and choices.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """

    def __init__(self, spec: Spec, config: WorldModelConfig) -> None:
        super().__init__(spec, config)
        self.encoder = CausalEncoder(self.layout, config)
        self.decoder = DiffusionDecoder(self.layout, config)

    @property
    def denoiser(self) -> DiffusionDecoder:
        """The decoder."""
        return self.decoder

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the encoder's rate."""
        return list(self.encoder.parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the decoder's rate."""
        return list(self.decoder.parameters())

    def contexts(
        self,
        sequence: Sequence,
        history: Tensor,
        keys: Tensor | None,
        eps: Tensor | None = None,
    ) -> DecoderContext:
        """Encode all history frames of clips; see `WorldModel.contexts`."""
        valid = sequence.valid[:, :-1]
        interface = None
        if keys is not None and self.config.interface_noise > 0:
            size = valid[0].numel() * self.config.dim
            interface = noise.normal(keys, size, history.dtype)
            interface = interface.reshape(*valid.shape, -1) * self.config.interface_noise
        c = self.encoder(history, valid, sequence.action, sequence.action_valid, interface)
        flat = (c, history, sequence.action, sequence.action_valid)
        return self.decoder.context(*(x.flatten(0, 1) for x in flat))

    def empty_cache(self, batch: int) -> RingCache:
        """Return the memory of `batch` rollouts that have seen no frame."""
        return self.encoder.empty_cache(batch)

    def read(self, frame: Frame, cache: RingCache) -> Tensor:
        """Read one more frame into `cache` and return its c; see `WorldModel.read`."""
        return self.encoder.step(frame.packed, frame.valid, frame.action, frame.action_valid, cache)

    def next_frame(
        self, frame: Frame, cache: RingCache, eps: Tensor, sampler: flow.Sampler
    ) -> NextFrame:
        """Read one more frame and sample the next; see `WorldModel.next_frame`."""
        c = self.read(frame, cache)
        rest = (frame.packed, frame.action, frame.action_valid)
        found = guidance.contexts(
            lambda c: self.decoder.context(c, *rest), c, eps, sampler, self.config.guidance_noise
        )
        base = self.base(frame.packed, frame.valid)
        return NextFrame(*self.sample(found[0], base, eps, sampler, found[1]), c)
