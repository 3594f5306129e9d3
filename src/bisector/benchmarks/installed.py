"""Which of the packages that bisector can use are there, and whether they can be imported; without torch."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

SECONDS = 120
"""After which an import that has not ended is given up."""


@dataclass(frozen=True)
class Package:
    """One package that an extra asks for."""

    name: str
    needed: str  # such as ">=2.6"
    version: str | None  # None where it is not installed
    problem: str | None  # why it is of no use; None where it is of use


@dataclass(frozen=True)
class Extra:
    """What an extra brings, ``[NAME]`` after what pip installs."""

    name: str
    packages: list[str]
    missing: list[str]
    broken: list[str]
    install: str  # the command that brings what is missing


def extras_of(requirements: Iterable[str], without: Sequence[str] = ("dev",)) -> dict[str, dict[str, str]]:
    """Return the packages that each extra asks for, with the versions, from the lines of a package's metadata.

    An extra of bisector that another one asks for is taken apart.

    >>> extras_of(["torch>=2", 'timm>=1.0; extra == "timm"', 'bisector[timm]; extra == "all"'])
    {'timm': {'timm': '>=1.0'}, 'all': {'timm': '>=1.0'}}
    """
    found: dict[str, dict[str, str]] = {}
    nested: dict[str, list[str]] = {}
    for line in requirements:
        told = re.match(r"([\w.-]+)\s*(?:\[(.*?)\])?\s*([^;]*?)\s*;.*extra == ['\"]([\w-]+)['\"]", line)
        if told is None or told[4] in without:
            continue
        own = found.setdefault(told[4], {})
        if told[1] == "bisector":
            nested.setdefault(told[4], []).extend(told[2].replace(" ", "").split(","))
        else:
            own[told[1]] = told[3]
    for name, others in nested.items():
        for other in others:
            found[name] |= found.get(other, {})
    return found


def packages_of(needed: Mapping[str, str], problems: Mapping[str, str]) -> list[Package]:
    """Return what is known of each package.

    Args:
        needed: the versions, by name.
        problems: what an import said, by name, as `import_problems` returns it.
    """
    found = []
    for name, versions in needed.items():
        there = _installed(name)
        version = None if there is None else there.version
        problem = problems.get(name)
        if version is None:
            problem = "not installed"
        elif problem is None and (least := re.search(r">=\s*([\d.]+)", versions)) is not None:
            old = _numbers(version) < _numbers(least[1])
            problem = f"{version} is too old: {versions} is needed" if old else None
        found.append(Package(name, versions, version, problem))
    return found


class Imports:
    """Imports packages in a process of its own, so that one that ends Python, or hangs, costs nothing else.

    The process starts at once; `problems` waits for it.

    Args:
        names: of packages, as they are installed; those that are not there are passed over.
    """

    def __init__(self, names: Iterable[str]) -> None:
        modules = {name: _module(there) for name in names if (there := _installed(name)) is not None}
        self._left = {name: module for name, module in modules.items() if module is not None}
        self._process = self._start()

    def problems(self) -> dict[str, str]:
        """Return what went wrong, by package, with the file and the line where it did."""
        found: dict[str, str] = {}
        while self._left:
            try:
                told, _ = self._process.communicate(timeout=SECONDS)
                end = _end(self._process.returncode)
            except subprocess.TimeoutExpired:
                self._process.kill()
                told, _ = self._process.communicate()
                end = f"its import has not ended after {SECONDS} s"
            for line in told.splitlines():
                module, problem = json.loads(line)
                name = next(name for name, one in self._left.items() if one == module)
                del self._left[name]
                if problem:
                    found[name] = problem
            if self._left:  # the first of them ended the process
                name = next(iter(self._left))
                del self._left[name]
                found[name] = end
                self._process = self._start()
        self._process.communicate()
        return found

    def _start(self) -> "subprocess.Popen[str]":
        code = f"from {__name__} import import_each; import_each()"
        here = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109 (a part of the path)
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *self._left.values()],
            env={**os.environ, "PYTHONPATH": here},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def import_each() -> None:
    """Import the modules that the command line names; print a line of JSON for each: name and what went wrong."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a package prints shall not be in between
    for module in sys.argv[1:]:
        problem = import_problem(module)
        print(json.dumps([module, problem]), file=told, flush=True)


def import_problem(module: str) -> str | None:
    """Import a module; return what it raised and where, or None.

    >>> import_problem("json"), import_problem("no_such_module")
    (None, "ModuleNotFoundError: No module named 'no_such_module'")
    """
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return problem_of(error)
    return None


def problem_of(error: BaseException) -> str:
    """Return what an error says, in one line, with the file and the line that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if not f.filename.startswith("<")), None)
    here = last is None or last.filename in {__file__, importlib.__file__}
    return text if here or last is None else f"{text} ({last.filename}, line {last.lineno})"


def _end(code: int) -> str:
    if code < 0:
        return f"its import ends Python: {signal.Signals(-code).name}"
    return f"its import ends Python with exit code {code}"


@cache
def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _module(package: Distribution) -> str | None:
    """Return the name by which a package is imported: of several the one that is called like it."""
    files = package.files or []
    inside = {file.parts[0] for file in files if len(file.parts) == 2 and file.name == "__init__.py"}
    alone = {file.stem for file in files if len(file.parts) == 1 and file.suffix == ".py"}
    names = sorted(name for name in inside | alone if name.isidentifier() and not name.startswith("_"))
    listed = (package.read_text("top_level.txt") or "").split()
    called = re.sub(r"[-.]+", "_", package.metadata["Name"]).lower()
    several = [name for name in (names or listed) if not Path(name).name.startswith(("_", "test"))]
    return next((name for name in several if name.lower() == called), several[0] if several else None)


def _numbers(version: str) -> list[int]:
    """Return the numbers before anything else in a version, to compare.

    >>> _numbers("2.10.0+cpu") > _numbers("2.9")
    True
    """
    return [int(part) for part in (re.match(r"\d+(\.\d+)*", version) or ["0"])[0].split(".")]
