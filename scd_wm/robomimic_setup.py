"""What robomimic needs before it can be used beside others: quiet imports, and its registry.

Robomimic keeps in global variables which observations are images (`obs_utils`), and whoever loads a
policy overwrites them for all. `ObsRegistry` holds them for one policy and puts them in place only
while that policy is built or acts.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from scd_wm.torchvision_shim import declare_torchvision_operators

OBS_UTILS = "robomimic.utils.obs_utils"
GLOBALS = ("OBS_MODALITIES_TO_KEYS", "OBS_KEYS_TO_MODALITIES", "DEFAULT_ENCODER_KWARGS")
EXTRA_PACKAGES = ("robomimic", "six", "torchvision")
INSTALL = "pip install 'scd-wm[robomimic]'"


def load_robomimic(*modules: str) -> None:
    """Import robomimic, or modules of it by their full names, without what they print.

    Raises:
        ModuleNotFoundError: If it is not installed; says what to install.
    """
    declare_torchvision_operators()
    try:
        with quiet():
            for module in modules or ("robomimic",):
                import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRA_PACKAGES:
            raise
        message = f"robomimic's policies need {package}, which is not installed; {INSTALL}"
        raise ModuleNotFoundError(message, name=package) from None


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which nothing is printed to standard output, as robomimic does."""
    return contextlib.redirect_stdout(io.StringIO())


@dataclass(frozen=True)
class ObsRegistry:
    """Robomimic's global variables about observations, as one policy wants them."""

    values: dict[str, Any]

    @classmethod
    def of(cls, config: Any) -> ObsRegistry:
        """Return what robomimic makes of a policy's configuration."""
        load_robomimic(OBS_UTILS)
        with cls._now().active(), quiet():
            import_module(OBS_UTILS).initialize_obs_utils_with_config(config)
            return cls._now()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Put them in place, and back what was there when the block ends."""
        before = self._now()
        self._set()
        try:
            yield
        finally:
            before._set()

    @classmethod
    def _now(cls) -> ObsRegistry:
        module = import_module(OBS_UTILS)
        return cls({name: getattr(module, name) for name in GLOBALS})

    def _set(self) -> None:
        module = import_module(OBS_UTILS)
        for name, value in self.values.items():
            setattr(module, name, value)
