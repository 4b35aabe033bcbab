"""World models that come with the package, each a folder that `from_pretrained` reads."""

from pathlib import Path

NAMES = ("lift_tiny", "push_t_tiny")
SHIPPED = {name: Path(__file__).parent / name for name in NAMES}
