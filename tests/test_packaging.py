"""The layout and the wheel: three folders at the top are scd_wm's, and imports point inwards."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("datasets", "envs", "policies")  # folders at the top that are installed inside scd_wm
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
NOT_SOURCE = {"__pycache__", ".DS_Store"}

# Who may import whom: DESIGN's chain. Modules not listed are entry points: they import everything
# and only the command line imports them.
INNER = {"spec", "clip"}
MAY_IMPORT = {
    "spec": set(),
    "clip": {"spec"},
    "model": INNER,
    "imagination": INNER | {"model"},
    "autoencoder": INNER | {"imagination"},
    "datasets": INNER,
    "policies": INNER | {"imagination", "envs"},  # a scripted policy knows its environment
    "envs": INNER | {"imagination"},
    "evaluation": INNER | {"model", "imagination", "autoencoder"},
    "training": INNER | {"assets", "model", "datasets", "evaluation", "autoencoder"},
    "report": INNER | {"model", "imagination", "evaluation"},
    "assets": set(),
    "testing": INNER | {"model", "datasets"},
    "memory_setup": set(),
    "named_object": set(),
    "progress": set(),
    "robomimic_setup": set(),
    "torchvision_shim": set(),
}
# Without imports of ours but of each other, so that everyone may use them.
HELPERS = {
    *("assets", "memory_setup", "named_object", "progress"),
    *("robomimic_setup", "torchvision_shim"),
}


def source_files() -> Iterator[tuple[str, Path]]:
    """Yield every module's dotted name and file, each file once, under its installed name."""
    for package in SETUPTOOLS["packages"]:
        for file in sorted(package_folder(package).glob("*.py")):
            yield f"{package}.{file.stem}".removesuffix(".__init__"), file


def package_folder(package: str) -> Path:
    """Return where the build table says that a package is."""
    table: dict[str, str] = SETUPTOOLS["package-dir"]
    for name in sorted(table, key=len, reverse=True):
        if package == name or package.startswith(f"{name}."):
            return ROOT / table[name] / package.removeprefix(name).lstrip(".").replace(".", "/")
    raise AssertionError(f"{package} is in no folder of the table")


def imported_modules(file: Path) -> set[str]:
    """Return the dotted names that a file imports, those for type checking only left out."""
    tree = ast.parse(file.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_three_folders_are_linked_by_relative_links() -> None:
    for name in LINKED:
        link = ROOT / "scd_wm" / name
        assert link.is_symlink(), f"{link} must be a link"
        assert os.readlink(link) == f"../{name}"


def test_the_three_folders_have_no_init_file() -> None:
    assert [str(f) for name in LINKED for f in (ROOT / name).rglob("__init__.py")] == []


def test_every_package_folder_is_in_the_build_table() -> None:
    folders = {file.parent for name in ("scd_wm", *LINKED) for file in walk(ROOT / name)}
    listed = {package_folder(package) for package in SETUPTOOLS["packages"]}
    assert folders == listed


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, not following links."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_SOURCE or path.is_symlink():
            continue
        if path.is_dir():
            yield from walk(path)
        else:
            yield path


def test_modules_import_only_what_is_further_inside() -> None:
    wrong = []
    for module, file in source_files():
        own = module.split(".")[1] if "." in module else ""
        if own not in MAY_IMPORT:
            continue
        for name in imported_modules(file):
            parts = name.split(".")
            inside = parts[0] == "scd_wm" and len(parts) > 1
            if inside and parts[1] not in MAY_IMPORT[own] | HELPERS | {own}:
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_entry_points_are_imported_by_the_command_line_alone() -> None:
    wrong = []
    for module, file in source_files():
        own = module.split(".")[1] if "." in module else ""
        for name in imported_modules(file):
            parts = name.split(".")
            if parts[0] == "scd_wm" and len(parts) > 1 and own in MAY_IMPORT:
                wrong += [f"{module}: {name}"] if parts[1] not in MAY_IMPORT else []
    assert wrong == []


def test_no_module_imports_by_a_relative_name_which_the_links_would_break() -> None:
    relative = [
        f"{module}: {name}"
        for module, file in source_files()
        for name in imported_modules(file)
        if name.startswith(".")
    ]
    assert relative == []


def test_nobody_imports_the_three_folders_by_their_bare_names() -> None:
    tests = [(str(file), file) for file in (ROOT / "tests").rglob("*.py")]
    bare = [
        f"{module}: {name}"
        for module, file in (*source_files(), *tests)
        for name in imported_modules(file)
        if name.split(".")[0] in LINKED
    ]
    assert bare == []


def test_every_progress_bar_keeps_the_rule_of_all() -> None:
    own = [module for module, file in source_files() if "tqdm(" in file.read_text()]
    assert own == ["scd_wm.progress"]


def test_no_module_has_the_name_of_a_library() -> None:
    libraries = set(sys.stdlib_module_names) | {
        requirement.split(">")[0].split("=")[0].strip().replace("-", "_")
        for group in (
            PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"].values(),
        )
        for requirement in group
    }
    named = {module.split(".")[-1]: module for module, _ in source_files() if "." in module}
    assert {named[name] for name in set(named) & libraries} == set()


def test_importing_the_package_loads_nothing_heavy_and_registers_the_environments() -> None:
    heavy = ["torch", "mujoco", "h5py", "pyarrow", "av", "robomimic", "matplotlib", "zarr"]
    code = (
        "import sys, scd_wm, gymnasium\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "print('scd_wm/PushT-v0' in gymnasium.registry)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split("\n")[:2] == ["[]", "True"], run.stderr


def test_public_names_load_on_first_use() -> None:
    import scd_wm

    assert set(scd_wm.__all__) <= set(dir(scd_wm))
    for name in scd_wm.__all__:
        assert getattr(scd_wm, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = scd_wm.nothing


def test_the_version_is_that_of_the_project() -> None:
    import scd_wm

    assert scd_wm.__version__ == PROJECT["project"]["version"]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel from a copy of the sources and return the paths in it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    for name in ("scd_wm", *LINKED):
        ignore = shutil.ignore_patterns(*NOT_SOURCE)
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        *options,
        "--wheel-dir",
        str(folder),
        str(copy),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_file_of_every_package(wheel_files: set[str]) -> None:
    expected = {"scd_wm/py.typed"}
    for name in ("scd_wm", *LINKED):
        prefix = "" if name == "scd_wm" else "scd_wm/"
        expected |= {prefix + file.relative_to(ROOT).as_posix() for file in walk(ROOT / name)}
    packed = {path for path in wheel_files if ".dist-info/" not in path}
    assert packed == expected


def test_the_wheel_has_one_folder_at_the_top(wheel_files: set[str]) -> None:
    assert {path.split("/")[0] for path in wheel_files} == {"scd_wm", "scd_wm-0.1.0.dist-info"}
