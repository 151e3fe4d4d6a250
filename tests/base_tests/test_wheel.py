"""What a person gets who installs the wheel: the packages, their data and types; no tests, no experiments."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"search_spaces", "supernets", "latency_tables", "predictors", "nas", "nasbench"}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing is left in the working tree and nothing stale gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "out")
    shutil.copytree(repository, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "source"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = folder.glob("hwnas-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_holds_our_packages_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES


def test_holds_every_module_and_every_data_file(names: set[str], repository: Path) -> None:
    data = ("search_spaces/presets", "supernets/pretrained", "supernets/datasets", "latency_tables/tables")
    ours = [path for package in PACKAGES for path in (repository / package).rglob("*.py")]
    ours += [*repository.glob("latency_tables/browser/*.mjs")]
    ours += [path for folder in data for path in (repository / folder).rglob("*") if path.is_file()]
    wanted = {str(p.relative_to(repository)) for p in ours if "__pycache__" not in p.parts and p.suffix != ".part"}
    assert wanted - names == set()


def test_is_typed(names: set[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_holds_the_licences(names: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "supernets/datasets/fashion_mnist/LICENSE.txt" in names


def test_ships_a_space_to_search_and_images_to_search_with(names: set[str]) -> None:
    assert "search_spaces/presets/fashion-mbv3.toml" in names
    assert any(name.startswith("supernets/datasets/fashion_mnist/test-images") for name in names)


def test_installs_one_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(entry).decode().split() == ["[console_scripts]", "nas", "=", "nas.cli.main:main"]


def test_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert sum(size for name, size in sizes.items() if name.startswith("supernets/datasets/")) <= 9 * 2**20
    assert max(size for name, size in sizes.items()) <= 8 * 2**20
    assert wheel.stat().st_size <= 20 * 2**20


def test_works_unpacked_away_from_the_source(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import search_spaces as s; "
        "print(s.__file__, s.get_space('fashion-mbv3').name)"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == [str(tmp_path / "search_spaces/__init__.py"), "fashion-mbv3"]
