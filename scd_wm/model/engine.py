"""Ways to run a world model for imagination: they differ in speed, and by rounding in last digits.

plain    torch's own layers, as in training
packed   for a CPU: weights in the layout that its matrix products want, GELU done as they are
         written, queries and keys normed and turned together, pixels drawn in pieces
compile  what runs at every sampler step by torch.compile, a CUDA graph on a GPU
auto     packed on a CPU that can do it, plain elsewhere
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_wm.model.blocks import Attend, Attention
from scd_wm.model.denoiser import DenoiserContext, FrameDenoiser, Modulation
from scd_wm.model.refiner import PixelRefiner
from scd_wm.model.world_model import WorldModel

ENGINES = ("auto", "plain", "packed", "compile")
# Below as many multiplications the call of oneDNN costs more than the layout saves.
LEAST_WORK = 2**20
# Bytes of one of the maps that pixels are drawn from: several of them stay in a shared cache.
PIECE_BYTES = 2**22


def prepare(model: WorldModel, engine: str = "auto") -> WorldModel:
    """Return a model that imagines what `model` does, by an engine; for inference only.

    It shares the parameters of `model`, which itself stays as it is and can go on training: weights
    that change in place are packed anew at their next use. Changes that torch does not count go
    unseen, those by way of `.data` or of another tensor's memory, and so do parameters replaced by
    others (`model.to`): prepare again after those.

    Any batch size will do. "compile" compiles for each batch size that it meets, and for the
    entangled model once more while the history fills: see `scd_wm.imagination.warm_up`.

    Args:
        model: On its device, in its precision.
        engine: One of `ENGINES`.

    Raises:
        ValueError: If there is no such engine, or it cannot run this model here.
    """
    engine = chosen(model, engine)
    fast = _sharing(model).eval()
    if engine == "packed":
        _pack(fast)
    if engine == "compile":
        _compile(fast.denoiser)
    return fast


def chosen(model: WorldModel, engine: str = "auto") -> str:
    """Return the engine that "auto" means for a model, or the one named.

    Raises:
        ValueError: If there is no such engine, or it cannot run this model here.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}, got {engine!r}")
    why_not = _why_not_packed(model.layout.delta_std)
    if engine == "auto":
        return "plain" if why_not else "packed"
    if engine == "packed" and why_not:
        raise ValueError(f"engine 'packed' {why_not}; use 'auto', 'plain' or 'compile'")
    return engine


def _why_not_packed(like: Tensor) -> str | None:
    if like.device.type != "cpu":
        return f"runs on a CPU, the model is on {like.device}"
    if like.dtype != torch.float32:
        return f"computes in float32, the model is in {like.dtype}"
    ops = ("_reorder_linear_weight", "_linear_pointwise")
    if not all(hasattr(torch.ops.mkldnn, op) for op in ops):
        return f"needs oneDNN, which this build of torch {torch.__version__} lacks"
    return None


def _sharing(model: WorldModel) -> WorldModel:
    """Return a copy of a model whose parameters and buffers are those of the model."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


# Packed.


class PackedLinear(nn.Linear):
    """A linear layer that multiplies by a copy of its weight in oneDNN's layout.

    Gradients, and products too small to gain, take torch's own way.
    """

    has_gelu = False  # by tanh, after the product

    def pack(self) -> None:
        """Lay out the weight as it is now."""
        self.version = _num_changes(self.weight)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return products, (..., out_features)."""
        if torch.is_grad_enabled() or x.numel() * self.out_features < LEAST_WORK:
            x = super().forward(x)
            return F.gelu(x, approximate="tanh") if self.has_gelu else x
        if _num_changes(self.weight) != self.version:
            self.pack()
        name, kind = ("gelu", "tanh") if self.has_gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, name, [], kind)


def _num_changes(weight: Tensor) -> int:
    """Return how often a tensor was changed in place; one made for inference does not tell."""
    return -1 if weight.is_inference() else weight._version


class JointAttention(Attention):
    """Norms and turns queries and keys together, in a third of the operations."""

    def forward(self, x: Tensor, table: Tensor, attend: Attend) -> Tensor:
        """Mix tokens; see `Attention.forward`."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        qk, v = qkv[..., :2, :, :], qkv[..., 2, :, :]  # (..., N, 2, H, K), (..., N, H, K)
        half = v.shape[-1] // 2
        weight = torch.stack([self.query_norm.weight, self.key_norm.weight])
        cos, sin = table.unsqueeze(-2).unbind(0)  # (..., N, 1, K)
        cos, sin = cos * weight, sin * weight.roll(half, -1)  # (..., N, 2, K)
        turned = torch.addcmul(qk * cos[..., None, :], qk.roll(half, -1), sin[..., None, :])
        size = torch.linalg.vector_norm(qk, dim=-1, keepdim=True)
        mean = size.square() / v.shape[-1]
        q, k = (turned * torch.rsqrt(mean + torch.finfo(x.dtype).eps)).unbind(-3)
        return self.out(attend(q, k, v).flatten(-2))


class PieceRefiner(PixelRefiner):
    """Draws the pixels of a few frames at once, so that what it works on stays in the cache."""

    def forward(self, tokens: Tensor, last: Tensor, noisy: Tensor) -> Tensor:
        """Return what to add to the prediction; see `PixelRefiner.forward`."""
        map_bytes = self.from_tokens.out_features * self.rows * self.columns * last.element_size()
        num_frames = max(1, PIECE_BYTES // map_bytes)
        draw = super().forward
        pieces = zip(*(torch.split(x, num_frames) for x in (tokens, last, noisy)), strict=True)
        return torch.cat([draw(*piece) for piece in pieces])


REPLACED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: PackedLinear,
    Attention: JointAttention,
    PixelRefiner: PieceRefiner,
}


def _pack(parent: nn.Module) -> None:
    """Replace what a module is made of."""
    for name, child in list(parent.named_children()):
        _pack(child)
        if isinstance(child, nn.Sequential):
            child = nn.Sequential(*_with_gelu(child))
        elif type(child) in REPLACED:
            child = _as(REPLACED[type(child)], child)
        setattr(parent, name, child)


def _as(kind: type[nn.Module], module: nn.Module) -> nn.Module:
    """Return a module of a kind that computes the same and has the parts of `module`."""
    new = kind.__new__(kind)
    new.__dict__.update(module.__dict__)
    if isinstance(new, PackedLinear):
        new.pack()
    return new


def _with_gelu(layers: nn.Sequential) -> Iterator[nn.Module]:
    """Yield as many layers; a linear one that GELU by tanh follows does it too."""
    before: nn.Module | None = None
    for layer in layers:
        if isinstance(before, PackedLinear) and _is_gelu(layer):
            before.has_gelu = True
            layer = nn.Identity()  # the layers after it keep their numbers, and parameters names
        yield layer
        before = layer


def _is_gelu(layer: nn.Module) -> bool:
    return isinstance(layer, nn.GELU) and layer.approximate == "tanh"


# Compiled.


def _compile(denoiser: FrameDenoiser) -> None:
    """Let torch compile what runs at every sampler step."""
    is_cuda = denoiser.query.device.type == "cuda"
    run = torch.compile(denoiser.forward, mode="reduce-overhead" if is_cuda else None)

    def forward(
        noisy: Tensor, modulation: Modulation, context: DenoiserContext
    ) -> tuple[Tensor, Tensor]:
        if is_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch's
        raw, logits = run(noisy, modulation, context)
        # A CUDA graph writes its results to the same memory at every step.
        return (raw.clone(), logits.clone()) if is_cuda else (raw, logits)

    denoiser.forward = forward  # type: ignore[method-assign]  # as nn.Module.compile does
