"""Imports run one way: scripts or studies, common, models."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [path for folder in (".", "common", "studies") for path in ROOT.glob(f"{folder}/*.py")]


def imported(path):
    """Return the modules that a file imports, without those of Python itself."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}


@pytest.mark.parametrize("name", ["models", "MAP_template"])
def test_a_student_can_take_a_file_alone(name):
    assert {module.split(".")[0] for module in imported(ROOT / f"{name}.py")} == {"torch"}


def test_scripts_and_studies_are_not_imported_and_imports_form_no_circle():
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    left = {name: imported(path) & names.keys() for name, path in names.items()}
    for name, modules in left.items():
        assert not any(module.startswith("ex") for module in modules), name
        assert name.startswith("studies.") or not any(m.startswith("studies") for m in modules)
    while left:
        leaves = {name for name, modules in left.items() if not modules & left.keys()}
        assert leaves, f"a circle: {left}"
        left = {name: modules for name, modules in left.items() if name not in leaves}
