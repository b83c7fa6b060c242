"""What is installed is what is here: the wheel, unpacked, and run where there is no repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.settings_text import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_all_files_of_the_packages(unpacked: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert files_of(unpacked, package) == files_of(ROOT, package)
    assert [*unpacked.glob("docweave-*.dist-info/licenses/LICENSE")]


def files_of(folder: Path, package: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in (folder / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_it_runs_outside_the_repository(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "leave.md").write_text("# Leave\n\nIt is 25 days a year.")
    code = (
        "import sys, apps, docweave; sys.argv[0] = 'docweave'; from apps.cli import main; "
        "print(apps.__file__, file=sys.stderr); main()"
    )
    env = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    for words in (["init"], ["plan"]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.startswith(str(unpacked))
    assert "leave.md" in ended.stdout
