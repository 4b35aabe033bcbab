"""Which layers would be the encoder and which the decoder, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scd_wm.evaluation.ranking import spearman
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.interventions import Intervention
from scd_wm.probe.measure import MIDDLE_ONCE, ONE_STEP

Layer = Mapping[str, Any]
AGREES = 0.5  # rank correlation of a probe and an intervention from which they are said to agree
SEEN, PARTLY, NOT_SEEN = "seen", "partly seen", "not seen"


@dataclass(frozen=True)
class Split:
    """Layers of an encoder, which run once per frame, and of a decoder, which run at every step.

    A layer may be in both, as a copy.
    """

    encoder: list[int]
    decoder: list[int]
    reasons: list[str]  # of each layer, in words

    def intervention(self) -> Intervention:
        """Return what comes nearest to the split without training.

        Layers of the encoder alone run at the first step and their update stays; layers of the
        decoder alone never see the past; those of both see it at the first step and not again.
        """
        encoder, decoder = frozenset(self.encoder), frozenset(self.decoder)
        return Intervention(
            once=encoder - decoder, blind=decoder - encoder, blind_later=encoder & decoder
        )


def is_on_plateau(layer: Layer, config: ProbeConfig) -> bool:
    """Say whether a layer gives nearly the same features at all steps of a frame.

    The centred cosine between steps is high, and higher than between a frame and the next one:
    where frames are as alike as steps the probe has nothing to tell.
    """
    between = layer["steps"]["centred"]["mean"]
    return bool(between >= config.plateau and between > layer["next_frame"]["centred"])


def is_blind(layer: Layer, uniform: float, config: ProbeConfig) -> bool:
    """Say whether a layer puts almost no attention on the past."""
    return bool(layer["past_mass"]["mean"] < config.near_zero * uniform)


def is_needed(layer: Layer, config: ProbeConfig) -> bool:
    """Say whether samples get worse if the layer alone runs at the first step only.

    This is the question that a split asks of a layer. A loss that rises when the layer is skipped
    does not answer it: the loss rises too if the layer does what could be done once per frame.
    """
    rise = layer["once"]["rise"]
    return bool(rise["mean"] > config.matters and rise["low"] > 0)


def suggest(layers: Sequence[Layer], uniform: float, config: ProbeConfig) -> Split:
    """Suggest a split.

    Encoder: all layers up to the last one on the plateau, since a layer needs those before it.
    Decoder: layers that put almost no attention on the past, those that must run at every step, and
    all behind the encoder. Without a plateau there is no encoder: nothing can be split off.

    Args:
        layers: From `scd_wm.probe.summary.layer_numbers`.
        uniform: Attention on the past if all keys got the same.
        config: What counts as much or little.
    """
    plateau = [layer["layer"] for layer in layers if is_on_plateau(layer, config)]
    encoder = list(range(max(plateau) + 1)) if plateau else []
    decoder, reasons = [], []
    for layer in layers:
        why = _why(layer, uniform, config)
        is_behind = layer["layer"] >= len(encoder)
        if is_behind or why["blind"] or why["needed"]:
            decoder.append(layer["layer"])
        reasons.append(
            _reason(layer, why, layer["layer"] < len(encoder), layer["layer"] in decoder)
        )
    if not decoder:
        decoder = [len(layers) - 1]
        reasons[-1] += "; in the decoder because it needs a layer"
    return Split(encoder, decoder, reasons)


def _why(layer: Layer, uniform: float, config: ProbeConfig) -> dict[str, bool]:
    return {
        "plateau": is_on_plateau(layer, config),
        "blind": is_blind(layer, uniform, config),
        "needed": is_needed(layer, config),
    }


def _reason(layer: Layer, why: Mapping[str, bool], is_read: bool, is_run: bool) -> str:
    """Return why a layer is where it is."""
    where = "encoder and decoder" if is_read and is_run else "encoder" if is_read else "decoder"
    same = "the same" if why["plateau"] else "not the same"
    past = "almost no" if why["blind"] else "some"
    rise = layer["once"]["rise"]
    need = "must run" if why["needed"] else "need not run"
    return (
        f"{where}: features {same} at all steps (centred cosine "
        f"{layer['steps']['centred']['mean']:.3f}, next frame "
        f"{layer['next_frame']['centred']:.3f}), {past} attention on the past "
        f"({layer['past_mass']['mean']:.3f}), {need} at every step (error {rise['mean']:+.1%} "
        f"if run once, interval from {rise['low']:+.1%})"
    )


def regularities(layers: Sequence[Layer], uniform: float, config: ProbeConfig) -> dict[str, Any]:
    """Say whether the two regularities that SCD rests on are there, and whether probes agree.

    Early and middle layers are the first two thirds, deep ones the rest. The probes agree with the
    interventions if layers rank alike by both, by Spearman's correlation over layers: by attention
    on the past and by the rise of the loss without it; and by how much features differ between
    steps and by the rise of the error when the layer runs once.
    """
    first_deep = -(-2 * len(layers) // 3)
    same = [is_on_plateau(layer, config) for layer in layers]
    blind = [is_blind(layer, uniform, config) for layer in layers]
    past = [layer["past_mass"]["mean"] for layer in layers]
    without = [layer["loss_blind"]["mean"] for layer in layers]
    apart = [1 - layer["steps"]["centred"]["mean"] for layer in layers]
    once = [layer["once"]["rise"]["mean"] for layer in layers]
    return {
        "first_deep_layer": first_deep,
        "same_features": _verdict(same[:first_deep]),
        "layers_on_plateau": [i for i, x in enumerate(same) if x],
        "no_past_in_deep_layers": _verdict(blind[first_deep:]),
        "layers_without_past": [i for i, x in enumerate(blind) if x],
        "rank_of_past_mass_and_loss_without_past": _rank(past, without),
        "rank_of_change_between_steps_and_error_if_run_once": _rank(apart, once),
    }


def _verdict(found: Sequence[bool]) -> str:
    return SEEN if all(found) else PARTLY if any(found) else NOT_SEEN


def _rank(a: Sequence[float], b: Sequence[float]) -> float:
    return float(spearman(np.array(a), np.array(b)))


def in_words(found: Mapping[str, Any], split: Split, layers: Sequence[Layer]) -> list[str]:
    """Return what the probes come to, a sentence each."""
    first, last = found["first_deep_layer"], len(layers) - 1
    plateau, no_past = found["layers_on_plateau"], found["layers_without_past"]
    past = found["rank_of_past_mass_and_loss_without_past"]
    steps = found["rank_of_change_between_steps_and_error_if_run_once"]
    return [
        f"Nearly the same features at all denoising steps in early and middle layers (0 to "
        f"{first - 1}): {found['same_features']}. They are the same in {some(plateau)}.",
        f"Almost no attention on the past in deep layers ({first} to {last}): "
        f"{found['no_past_in_deep_layers']}. So little: {some(no_past)}.",
        "Do interventions agree? Over layers, attention on the past and the rise of the loss "
        f"without it have a rank correlation of {past:.2f}: {_agreement(past)}.",
        "Change of features between steps and the rise of the error when the layer runs once have "
        f"one of {steps:.2f}: {_agreement(steps)}.",
        _split_words(split),
    ]


def _split_words(split: Split) -> str:
    if not split.encoder:
        return "No split is suggested: no layer gives the same features at all steps."
    return (
        f"Suggested split: encoder {some(split.encoder)}, which end with the last layer whose "
        f"features are the same at all steps; decoder {some(split.decoder)}, which see almost no "
        "past, must run at every step, or come behind the encoder."
    )


def some(layers: Sequence[int]) -> str:
    """Return layers as text."""
    names = ", ".join(map(str, layers))
    return "no layer" if not layers else f"layer {names}" if len(layers) == 1 else f"layers {names}"


def sampler_words(samplers: Mapping[str, Any], config: ProbeConfig) -> list[str]:
    """Return what the sampler says of itself, two sentences or none.

    Where one step does as well as many, a layer that can be run once is no news. That may be for
    want of chance in the world, or since one step gives the mean, whose error is the least.
    """
    rise = samplers[ONE_STEP]["rise"]["mean"]
    if rise > config.matters:
        return []
    moved = {name: f"{samplers[name]['moved']:.3g}" for name in (ONE_STEP, MIDDLE_ONCE)}
    return [
        f"The error of a single sampler step differs by {rise:+.1%} from that of "
        f"{config.num_steps}: more steps do not lower it, so a layer whose error hardly rises "
        "when it runs once is no evidence for a split.",
        "What steps change is which frame is drawn. By squared distance, over the error of full "
        f"sampling, a frame moves {moved[ONE_STEP]} when a single step draws it from the same "
        f"noise, and {moved[MIDDLE_ONCE]} when the middle layers run once.",
    ]


def _agreement(correlation: float) -> str:
    if np.isnan(correlation):
        return "undefined"
    if correlation >= AGREES:
        return "they agree"
    return "they hardly agree" if correlation > 0 else "they do not agree"
