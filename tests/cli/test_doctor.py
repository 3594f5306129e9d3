"""`bisector doctor` in real processes, with packages that are missing, raise, or end Python."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from torch import Tensor

from bisector import errors
from bisector.benchmarks import self_check
from bisector.benchmarks.installed import Imports, extras_of, packages_of
from bisector.engine import dispatch
from bisector.errors import install_command
from real_processes import ENVIRONMENT, bisector


def broken(folder: Path, **packages: str) -> dict[str, str]:
    """The environment of a process in which these packages are others."""
    for name, code in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(folder), ENVIRONMENT.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_a_broken_extra_is_named_with_its_line_and_costs_nothing_else(tmp_path: Path) -> None:
    codes = {"timm": "import os\nraise RuntimeError('on purpose')", "cleanlab": "import os\nos.abort()"}
    done = bisector("doctor", "--json", env=broken(tmp_path, **codes))
    found = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert not found["healthy"]
    said = {one["name"]: one["problem"] for one in found["packages"]}
    assert said["timm"] == f"RuntimeError: on purpose ({tmp_path}/timm/__init__.py, line 2)"
    assert said["cleanlab"] == "its import ends Python: SIGABRT"
    assert said["plotly"] is None
    assert [one["broken"] for one in found["extras"] if one["name"] == "timm"] == [["timm"]]
    assert found["checks"]
    assert all(one["passed"] for one in found["checks"])
    assert "Wrong: timm" in done.stderr  # the words for people
    assert len(done.stderr.splitlines()) <= 40


def test_without_torch_it_still_tells_what_there_is(tmp_path: Path) -> None:
    environment = broken(tmp_path, torch="raise OSError('libcudart.so: not found')")
    code = (
        "import importlib.metadata, sys; importlib.metadata.requires = lambda name: []\n"
        "from bisector.cli.main import main; sys.exit(main(['doctor']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("bisector ")
    assert "Wrong: torch cannot be imported: OSError: libcudart.so: not found" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_engine_is_right_here_and_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(self_check.checks("cpu"))
    assert [one.name for one in found if not one.passed] == []
    assert {one.name.split()[1] for one in found} == {"chunked", "sampled", "information_amount"}

    right = dispatch._chunked_loss

    def wrong(*arguments: object) -> Tensor:
        loss: Tensor = right(*arguments)  # type: ignore[arg-type]
        return 1.001 * loss

    monkeypatch.setattr(dispatch, "_chunked_loss", wrong)
    failed = {one.name.split()[1] for one in self_check.checks("cpu") if not one.passed}
    assert failed == {"chunked", "sampled"}


def test_packages_are_missing_too_old_or_fine() -> None:
    needed = {"no-such-package": ">=1", "numpy": ">=99", "torch": ">=2.0"}
    missing, old, fine = packages_of(needed, {})
    assert (missing.version, missing.problem) == (None, "not installed")
    assert "is too old: >=99 is needed" in (old.problem or "")
    assert fine.problem is None
    assert Imports(["no-such-package"]).problems() == {}


def test_the_line_that_brings_an_extra_names_what_bisector_was_installed_from(tmp_path: Path) -> None:
    command = shlex.split(install_command("timm"))  # of a checkout: the tests run in one
    folder, _, extra = command.pop().partition("[")
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text())["project"]
    assert (command, project["name"]) == (["pip", "install", "-e"], "bisector")
    assert extra.removesuffix("]") in project["optional-dependencies"]

    installed, checkout = tmp_path / "a" / "site", tmp_path / "my checkout"
    (installed / "bisector").mkdir(parents=True)
    (installed / "bisector" / "__init__.py").touch()
    shutil.copy(errors.__file__, installed / "bisector")
    notes = installed / "bisector-1.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: bisector\nVersion: 1\n")
    code = [
        sys.executable,
        "-c",
        "from bisector.errors import install_command; print(install_command('timm'))",
    ]

    def told() -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(
            code, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert told() == "pip install 'bisector[timm]'"
    (notes / "direct_url.json").write_text(json.dumps({"dir_info": {}, "url": checkout.as_uri()}))
    assert told() == "pip install 'bisector[timm]'"  # for it is gone
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    assert told() == f"pip install '{checkout}[timm]'"


def test_an_extra_that_asks_for_others_has_their_packages() -> None:
    lines = ['b>=1; extra == "x"', 'bisector[x,y]; extra == "z"', 'c[d]>=2; extra == "y"', "torch>=2"]
    assert extras_of(lines)["z"] == {"b": ">=1", "c": ">=2"}
    assert extras_of(['b>=1; extra == "dev"']) == {}
