"""ARCHITECTURE.md says what may import what; the code keeps to it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "caffesplit"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400
PURE = ("net", "metric", "split")
FILE_MODULES = {"pathlib", "shutil", "tempfile", "io", "mmap", "glob"}


def table() -> dict[str, set[str]]:
    """Package → what it may import, from ARCHITECTURE.md."""
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| ([^|]*)\|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"\w+", allowed)) for name, allowed in rows}


def package_of(module: str) -> str:
    """`caffesplit.formats.prototxt` → `formats`; the package itself → ``."""
    return [*module.split("."), ""][1]


def imports(path: Path) -> set[str]:
    """The full names of all modules a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    own = own_package(path)
    if own in ("__init__", "__main__"):
        return
    allowed = table()[own] | {own}
    used = {package_of(module) for module in imports(path) if module.startswith("caffesplit.")}
    assert used <= allowed, (
        f"{name(path)} imports {sorted(used - allowed)}. Move the code to where it may, "
        f"or change the table in ARCHITECTURE.md and say why."
    )


@pytest.mark.parametrize("path", [p for p in MODULES if own_package(p) in PURE], ids=name)
def test_a_pure_module_opens_no_file_and_sees_no_path(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & FILE_MODULES
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert "open" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    of_os = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    assert of_os <= {"cpu_count"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_has_one_job_and_fewer_lines_than_the_limit(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_table_names_every_package() -> None:
    packages = {own_package(path) for path in MODULES} - {"__init__", "__main__"}
    assert packages == set(table())


def test_the_layering_test_sees_a_forbidden_import(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text("def f():\n    from caffesplit.cli import main\n")
    assert {package_of(module) for module in imports(offender)} == {"cli"}


HEAVY = (
    *(
        "matplotlib",
        "lmdb",
        "h5py",
        "sklearn",
        "scipy",
        "torch",
        "ray",
        "plotly",
        "plyvel",
        "numpy",
    ),
    "google.protobuf",
)

HELP = """
import contextlib, io
from caffesplit.cli.main import cli
with contextlib.redirect_stdout(io.StringIO()):
    cli(["--help"], standalone_mode=False)
"""


@pytest.mark.parametrize("code", ["import caffesplit", HELP])
def test_the_command_line_starts_without_heavy_modules(code: str) -> None:
    program = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
