"""scd_wm: train a robotics world model on your own data, and imagine, plan and evaluate inside it.

Importing the package registers its Gymnasium environments (`scd_wm/...`). The names below are
loaded on first use, so that `import scd_wm` stays light: no torch, MuJoCo, HDF5, video or plots.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scd_wm.envs import registration

if TYPE_CHECKING:
    from scd_wm.autoencoder.load import load_autoencoder
    from scd_wm.clip import Clip
    from scd_wm.datasets.dataset import open_dataset
    from scd_wm.imagination import rollout, start_frame
    from scd_wm.spec import Spec
    from scd_wm.success.classifier import load_success_classifier
    from scd_wm.training.checkpoint import from_pretrained, load_world_model, save_pretrained

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Spec",
    "from_pretrained",
    "load_autoencoder",
    "load_success_classifier",
    "load_world_model",
    "open_dataset",
    "rollout",
    "save_pretrained",
    "start_frame",
]

_HOMES = {
    "Clip": "scd_wm.clip",
    "Spec": "scd_wm.spec",
    "from_pretrained": "scd_wm.training.checkpoint",
    "load_autoencoder": "scd_wm.autoencoder.load",
    "load_success_classifier": "scd_wm.success.classifier",
    "load_world_model": "scd_wm.training.checkpoint",
    "open_dataset": "scd_wm.datasets.dataset",
    "rollout": "scd_wm.imagination",
    "save_pretrained": "scd_wm.training.checkpoint",
    "start_frame": "scd_wm.imagination",
}  # public name: the module that defines it

registration.register()


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scd_wm' has no attribute {name!r}; it has {sorted(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
