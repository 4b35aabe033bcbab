"""The compatibility module for torchvision beside a CPU torch, each case in a fresh interpreter."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed; it comes with the extra `robomimic`",
)


def run(code: str, path: Path | None = None) -> str:
    """Return what `code` prints; `path` is searched for modules first."""
    start = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, cwd=root, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@needs_torchvision
def test_torchvision_imports_and_resizes_after_the_declaration() -> None:
    printed = run(
        "from scd_wm.torchvision_shim import declare_torchvision_operators as declare\n"
        "declare()\n"
        "import torch\n"
        "from torchvision.transforms.v2.functional import resize\n"
        "print(tuple(resize(torch.zeros(3, 8, 8), [4, 4]).shape))\n"
    )
    assert printed == "(3, 4, 4)"


def test_operators_that_cannot_load_are_declared_once(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_C.so").write_bytes(b"not a library")
    printed = run(
        "import torch\n"
        "from scd_wm.torchvision_shim import declare_torchvision_operators as declare\n"
        "print(declare(), declare(), torch.ops.torchvision.nms.default._schema.name)\n",
        tmp_path,
    )
    assert printed == "True False torchvision::nms"


@pytest.mark.parametrize("has_library", [False, True])
def test_nothing_is_declared_where_operators_load_or_are_absent(
    tmp_path: Path, has_library: bool
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    if has_library:  # any library that loads
        import torch

        real = next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps*"))
        (package / "_C.so").symlink_to(real)
    printed = run(
        "from scd_wm.torchvision_shim import declare_torchvision_operators as declare\n"
        "print(declare())\n",
        tmp_path,
    )
    assert printed == "False"
