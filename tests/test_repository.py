"""What must hold of the repository itself: layout, sizes, packaging, documents."""

import ast
import re
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

import dicom_node
import encoder
import index
import training
from dicom_node.cli.app import app

ROOT = Path(__file__).parents[1]
PACKAGES = (dicom_node, encoder, index, training)
SOURCES = sorted(path for p in PACKAGES for path in Path(p.__path__[0]).rglob("*.py"))
MAXIMUM_LINES, MAXIMUM_FUNCTION_LINES = 350, 40


def test_the_four_packages_come_from_one_folder_and_belong_to_us_alone() -> None:
    assert len({Path(p.__path__[0]).parent for p in PACKAGES}) == 1
    for name in ("dicom_node", "encoder", "index", "training"):
        assert packages_distributions().get(name, ["similis"]) == ["similis"]


def test_no_file_is_too_long() -> None:
    files = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {str(path): len(path.read_text().splitlines()) for path in files}
    assert {path: n for path, n in lengths.items() if n > MAXIMUM_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and "migrations" not in path.parts
        and (node.end_lineno or 0) - node.lineno + 1 > MAXIMUM_FUNCTION_LINES
    }
    assert long == set()


def test_no_conflict_was_left_in_a_file() -> None:
    kinds = ("*.py", "*.md", "*.toml", "*.txt", "Makefile", "Dockerfile", "*.yaml", "*.lua")
    folders = (ROOT, ROOT / "tests", ROOT / "deploy", *(Path(p.__path__[0]) for p in PACKAGES))
    marks = re.compile(r"^(<{7}|>{7})( |$)", re.M)
    files = {path for folder in folders for kind in kinds for path in folder.glob(kind)}
    assert [path for path in sorted(files) if marks.search(path.read_text("utf-8"))] == []


def test_no_test_folder_shadows_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("harmful", ["torchvision", "python-gdcm", "pylibjpeg-libjpeg"])
def test_what_breaks_others_or_is_gpl_is_not_installed(harmful: str) -> None:
    """torchvision from an index does not match a CPU torch; gdcm breaks `import pydicom`."""
    assert harmful not in {d.metadata["Name"].lower() for d in distributions()}


def test_the_readme_names_every_command_and_every_folder() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = {each.name for each in (*app.registered_commands, *app.registered_groups)}

    assert commands == set(re.findall(r"^\| `similis ([\w-]+)", readme, re.M))
    folders = set(re.findall(r"^\| `(\w+)/`", readme, re.M))
    assert folders == {p.name for p in ROOT.iterdir() if p.is_dir() and p.name in folders}


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_decisions_are_short() -> None:
    for path in (ROOT / "deploy/decisions").glob("*.md"):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_the_error_tree_is_drawn_as_it_is() -> None:
    from dicom_node import errors

    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert drawn == defined - {"SimilisError"}
