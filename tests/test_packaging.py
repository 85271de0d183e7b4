"""The content of the packages, and its agreement with their metadata."""

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

import helicone_sessions

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = metadata.version("helicone-sessions")
INFO = f"helicone_sessions-{VERSION}.dist-info"
on_the_wheel = pytest.mark.skipif(
    os.environ.get("HELICONE_SESSIONS_TEST_WHEEL") != "1", reason="the package was not installed by nox"
)


@on_the_wheel
def test_the_installed_package_is_tested() -> None:
    """The tests import the wheel and not the source tree around them."""
    assert "site-packages" in Path(helicone_sessions.__file__).parts


# What is built


def built_from(source: Path, out: Path) -> Path:
    """The directory with the wheel and the source archive of the project in *source*."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive of this project."""
    return built_from(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files in the source archive."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(place, filter="data")
    return next(place.iterdir())


def files_below(root: Path, folder: str) -> set[str]:
    found = (
        path for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(root).as_posix() for path in found}


@pytest.mark.promise(name="W1")
def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """The files of the package as they are, the licence and the papers; nothing compiled or run by itself."""
    papers = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        package = {name for name in archive.namelist() if not name.startswith(INFO)}
        changed = [name for name in package if archive.read(name) != (ROOT / name).read_bytes()]
        licence = archive.read(f"{INFO}/licenses/LICENSE")
        assert {f"{INFO}/{paper}" for paper in papers} == set(archive.namelist()) - package

    assert f"helicone_sessions-{VERSION}-py3-none-any.whl" == wheel.name
    assert files_below(ROOT, "helicone_sessions") == package
    assert [] == changed
    assert not [name for name in package if name.endswith((".pth", ".pyc", ".so", ".pyd", ".dylib"))]
    assert "helicone_sessions/py.typed" in package
    assert (ROOT / "LICENSE").read_bytes() == licence


@pytest.mark.promise(name="W3")
def test_the_metadata_is_complete(built: Path) -> None:
    """The wheel says what it is, which Pythons it is for, what it needs, and what its extras bring."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        said = email.message_from_bytes(archive.read(f"{INFO}/METADATA"))
        entries = archive.read(f"{INFO}/entry_points.txt").decode()
    needed = said.get_all("Requires-Dist", [])
    core = {re.split(r"[<>=!~; ]", line)[0] for line in needed if "extra ==" not in line}

    assert ("helicone-sessions", VERSION, "MIT") == (
        said["Name"],
        said["Version"],
        said["License-Expression"],
    )
    assert PROJECT["project"]["description"] == said["Summary"]
    assert ">=3.11" == said["Requires-Python"]
    assert "text/markdown" == said["Description-Content-Type"]
    assert (ROOT / "README.md").read_text("utf-8").strip() == said.get_payload().strip()  # type: ignore[union-attr]
    assert {"aiohttp", "attrs", "cattrs", "yarl"} == core
    assert set(PROJECT["project"]["optional-dependencies"]) == set(said.get_all("Provides-Extra", []))
    assert "helicone-sessions = helicone_sessions.cli:main" in entries
    assert "helicone_sessions = helicone_sessions.pytest_plugin" in entries


@pytest.mark.promise(name="W2")
def test_two_builds_are_the_same(built: Path, unpacked: Path, tmp_path: Path) -> None:
    """The source archive builds the same wheel and the same archive as the project, to the last byte."""
    again = built_from(unpacked, tmp_path)

    assert 2 == len([*again.iterdir()])
    for file in again.iterdir():
        assert (built / file.name).read_bytes() == file.read_bytes(), file.name


def modules(root: Path) -> set[str]:
    return {name for name in files_below(root, "tests") if name.endswith(".py")}


def test_the_source_archive_can_be_tested(unpacked: Path) -> None:
    """Its tests are all there, and all are found and imported."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "tests"]
    found = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)

    assert 0 == found.returncode, found.stdout[-2000:]
    assert modules(ROOT) == modules(unpacked)


@pytest.mark.skipif(which("git") is None or not (ROOT / ".git").exists(), reason="this is no clone")
def test_the_source_archive_holds_all_that_is_kept(unpacked: Path) -> None:
    """All files under version control are in the source archive."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    kept = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")

    assert [] == [name for name in kept if (ROOT / name).is_file() and not (unpacked / name).exists()]


# What the papers say


def sessions() -> dict[str, bool]:
    """The sessions of nox, and whether each runs when none is named."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    (plain,) = (
        re.findall(r"'(\w+)", ast.unparse(one.value))
        for one in tree.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "nox.options.sessions"
    )
    names = [
        one.name
        for one in tree.body
        if isinstance(one, ast.FunctionDef)
        and any(ast.unparse(mark).startswith("nox.session") for mark in one.decorator_list)
    ]
    return {name: name in plain for name in names}


def test_contributing_names_every_session() -> None:
    """A table of CONTRIBUTING.md has the sessions of the plain run, and another one all others."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    plain, others = (
        re.findall(r"^\| `(\w+)", table, re.MULTILINE)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[:2]
    )
    told = dict.fromkeys(plain, True) | dict.fromkeys(others, False)

    # Other sessions call it.
    assert sessions() == told | {"wheel": False}


def test_every_extra_is_tested_with_its_lowest_versions() -> None:
    """The sessions of nox install every extra, and each dependency names a lowest version."""
    text = (ROOT / "noxfile.py").read_text("utf-8")
    extras = PROJECT["project"]["optional-dependencies"]
    listed = ast.literal_eval(re.findall(r"^EXTRAS = (.*)$", text, re.MULTILINE)[0])
    needed = [*PROJECT["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]

    assert set(extras) == set(listed)
    assert [] == [line for line in needed if not re.fullmatch(r"[\w-]+>=[\d.]+", line)]


LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_the_tools_are_locked(lock: Path) -> None:
    """Each line is one version with hashes, no index or machine is named, and pyproject.toml agrees."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    lines = text.splitlines()
    locked = dict(re.match(r"([\w.-]+)==(\S+)", line).groups() for line in lines)  # type: ignore[union-attr,misc]
    wanted = [re.split(r"[>=]=", line) for line in PROJECT["dependency-groups"][lock.stem]]

    assert [] == [
        line
        for line in lines
        if not re.fullmatch(r"[\w.-]+==[^\s;]+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line)
    ]
    assert "://" not in lock.read_text("utf-8")
    assert [] == [name for name, *_ in wanted if name not in locked]
    pinned = [line.split("==") for line in PROJECT["dependency-groups"][lock.stem] if "==" in line]
    assert [[name, locked[name]] for name, _ in pinned] == pinned


def test_what_is_locked_is_what_nox_installs() -> None:
    """There is a lock for each group that the sessions of nox install by one."""
    names = re.findall(
        r'^LOCKS, LOCKED = "requirements", (\(.*\))$', (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE
    )

    assert sorted(ast.literal_eval(names[0])) == [lock.stem for lock in LOCKS]


def test_the_changelog_tells_of_this_version() -> None:
    """The newest heading of the changelog names the version that is installed."""
    headings = re.findall(r"^## (\d[^\s,]*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert headings[0] == metadata.version("helicone-sessions")


def test_hooks_run_the_tools_of_the_project() -> None:
    """The hooks of pre-commit install the versions that pyproject.toml pins."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    installed = {line for hook in hooks for line in hook["additional_dependencies"]}

    assert installed <= set(PROJECT["dependency-groups"]["lint"])


def test_ci_runs_the_tests_on_each_python() -> None:
    """The workflow and the classifiers name the same versions of Python."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    named = {line.rpartition(" :: ")[2] for line in PROJECT["project"]["classifiers"] if "Python ::" in line}

    assert named == set(workflow["jobs"]["tests"]["strategy"]["matrix"]["python"])


def test_every_extra_is_installed_for_the_documentation() -> None:
    """Read the Docs installs the package with all extras."""
    text = (ROOT / ".readthedocs.yaml").read_text("utf-8")

    assert set(PROJECT["project"]["optional-dependencies"]) == set(
        re.findall(r"\.\[([\w,]+)\]", text)[0].split(",")
    )
