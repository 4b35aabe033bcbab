"""From a trained causal diffuser to SCD: which of its layers go where, and what has to be new.

After the post-training of Bai et al. 2026 (arXiv:2602.10095): the encoder is made of the first
layers of the parent, the decoder of copies of its first few and its last few.

Axes: D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scd_wm.model.blocks import Block
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.decoder import DiffusionDecoder, PrefixReader
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.world_model import WorldModel

CONVERTED_MODES = ("resume", "prefix", "token_concat")  # the first is the default
FED_LEVEL = 0.8  # the paper feeds the noisiest fifth


@dataclass(frozen=True)
class Split:
    """Which layers of a causal diffuser make the encoder and which the decoder, counted from 0.

    Raises:
        ValueError: If a part is empty, or its layers are not in rising order.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            if not layers:
                raise ValueError(f"the {name} has no layers; give it one at least")
            if layers[0] < 0 or list(layers) != sorted(set(layers)):
                raise ValueError(
                    f"layers of the {name} must be 0 or more, each once and in rising order, got "
                    f"{','.join(map(str, layers))}"
                )

    @classmethod
    def of_counts(cls, num_encoder: int, num_decoder: int, depth: int) -> Split:
        """Return the first layers as encoder, and as decoder half first and half last ones.

        Of an odd number of decoder layers the last ones have one more.

        Args:
            num_encoder: Layers of the encoder.
            num_decoder: Layers of the decoder.
            depth: Layers of the model to be split.

        Raises:
            ValueError: If the model has not as many.
        """
        if max(num_encoder, num_decoder) > depth:
            raise ValueError(
                f"a split of {num_encoder}+{num_decoder} needs more layers than there are, {depth}"
            )
        first = num_decoder // 2
        decoder = (*range(first), *range(depth - num_decoder + first, depth))
        return cls(tuple(range(num_encoder)), decoder)

    def check_depth(self, depth: int) -> None:
        """Raise ValueError unless a model of so many layers has all of them."""
        for name, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            if layers[-1] >= depth:
                raise ValueError(
                    f"no layer {layers[-1]} for the {name}: the model has {depth}, 0 to {depth - 1}"
                )

    @property
    def resume_layer(self) -> int:
        """Decoder layers that the encoder has, too: the others go on where it stops."""
        return sum(layer <= self.encoder[-1] for layer in self.decoder)


def convert(
    parent: WorldModel,
    split: Split,
    *,
    context_mode: str = CONVERTED_MODES[0],
    fed_level: float | None = FED_LEVEL,
) -> WorldModel:
    """Return an SCD model with a causal diffuser's weights.

    Args:
        parent: Of `arch` "entangled".
        split: Which of its layers go where.
        context_mode: How the decoder reads the encoder's result; "resume" keeps the parent's
            function best.
        fed_level: Least noise level at which the encoder is fed the frame to come; None: it is not.

    Raises:
        ValueError: If `parent` is no causal diffuser or has not as many layers, or the settings do
            not go together.
    """
    if not isinstance(parent, EntangledWorldModel):
        raise ValueError(f"the model is SCD already (arch={parent.config.arch}); there is no split")
    split.check_depth(len(parent.network.blocks))
    config = converted_config(parent.config, split, context_mode, fed_level)
    with torch.random.fork_rng(devices=[]):  # all that is random here is overwritten
        child = build_world_model(parent.spec, config).to(parent.layout.delta_std).eval()
    weights, state = parent.state_dict(), child.state_dict()
    with torch.no_grad():
        for name, source in origins(child, split):
            state[name].copy_(weights[source])
        if isinstance(child.denoiser, DiffusionDecoder):
            _start_joins(child.denoiser, parent, split)
    return child


def converted_config(
    parent: WorldModelConfig, split: Split, context_mode: str, fed_level: float | None
) -> WorldModelConfig:
    """Return the configuration of the SCD model; what is not of the split is as in the parent's.

    Raises:
        ValueError: If the settings do not go together.
    """
    return replace(
        parent,
        arch="scd",
        encoder_layers=len(split.encoder),
        decoder_layers=len(split.decoder),
        context_mode=context_mode,
        fed_level=fed_level,
        resume_layer=split.resume_layer if context_mode == "resume" else 0,
        one_copy=False,
    )


def origins(child: WorldModel, split: Split) -> Iterator[tuple[str, str]]:
    """Yield the name of every weight of an SCD model that is its parent's, and the one there."""
    layers = {"encoder": split.encoder, "decoder": split.decoder}
    for name in child.state_dict():
        part, _, rest = name.partition(".")
        kind, _, inner = rest.partition(".")
        if kind == "blocks":
            index, _, weight = inner.partition(".")
            yield name, f"network.blocks.{layers[part][int(index)]}.{weight}"
        elif kind not in ("join", "readers") and name.split(".")[:2] != ["encoder", "final"]:
            yield name, f"network.{rest}"


def new_weights(child: WorldModel, split: Split) -> list[str]:
    """Return the names of the weights of an SCD model that its parent has not."""
    copied = {name for name, _ in origins(child, split)}
    return [name for name in child.state_dict() if name not in copied]


def _start_joins(decoder: DiffusionDecoder, parent: EntangledWorldModel, split: Split) -> None:
    """Let the decoder read its context as the parent's layers read a frame beside their own.

    Nothing is added to the noisy tokens, and keys and values are made of the context with the
    parent's weights: under its modulation at the noise level of what the encoder ends with, for the
    mean action, since the readers have none of their own.
    """
    if decoder.join is None:
        return
    for parameter in decoder.join.parameters():
        parameter.zero_()
    network, level = parent.network, 0.0 if decoder.config.fed_level is None else 1.0
    mean = network.query.new_zeros(parent.spec.action.dim)
    action = network.action(mean, torch.ones((), dtype=torch.bool, device=mean.device))
    condition = network.condition(mean.new_tensor(level), action)
    blocks = list(network.blocks)
    for reader, layer in zip(decoder.readers, split.decoder, strict=True):
        assert isinstance(reader, PrefixReader), "of `DiffusionDecoder`"
        _start_reader(reader, blocks[layer], blocks[layer].modulation(condition)[0])


def _start_reader(reader: PrefixReader, block: Block, modulation: Tensor) -> None:
    """Give a reader the keys and values of a layer, under a modulation, (6 D,)."""
    shift, scale = modulation.chunk(6)[:2]
    reader.norm.weight.copy_(1 + scale)
    reader.norm.bias.copy_(shift)
    dim = len(scale)  # the rows after those of queries are of keys and values
    reader.kv.weight.copy_(block.attention.qkv.weight[dim:])
    reader.kv.bias.copy_(block.attention.qkv.bias[dim:])
    reader.key_norm.weight.copy_(block.attention.key_norm.weight)
