"""Make torchvision importable beside a CPU build of torch.

Wheels of torchvision from PyPI link their operators to CUDA. Beside a CPU torch these do not load,
and `import torchvision` ends in "operator torchvision::nms does not exist", because torchvision
attaches meta functions to operators that nobody declared. Declaring their schemas is enough for
transforms, models and all that robomimic uses; calling `torchvision.ops.nms` itself still raises.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

import torch

SCHEMAS = (  # of the operators that torchvision attaches meta functions to
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # schemas live as long as the object that declared them


def declare_torchvision_operators() -> bool:
    """Declare torchvision's operators if its own library cannot load; call before importing it.

    Returns:
        Whether anything was declared: not where torchvision is absent, imported, or works.
    """
    if _declared or "torchvision" in sys.modules:
        return False
    library = _operator_library()
    if library is None or _loads(library):
        return False
    # torch.library has no annotations.
    fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # as above
    for schema in SCHEMAS:
        fragment.define(schema)  # type: ignore[no-untyped-call]  # as above
    _declared.append(fragment)
    return True


def _operator_library() -> Path | None:
    """Return the path of torchvision's compiled operators, without importing torchvision."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("_C*.so"))), None)


def _loads(library: Path) -> bool:
    """Return whether the system can load a compiled library, together with those it needs."""
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True
