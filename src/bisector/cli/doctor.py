"""Say what is installed, and check that losses come out right.

Losses and gradients of some heads are compared with the plain formula in float64, on every device. Exit code 1 if
something is wrong.
"""

import argparse
import platform
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisector._version import __version__
from bisector.cli.output import add_json, progress, say
from bisector.errors import install_command

if TYPE_CHECKING:
    from bisector.benchmarks.installed import Extra, Package
    from bisector.benchmarks.self_check import Check, Device


@dataclass(frozen=True)
class Health:
    """All that the command finds."""

    healthy: bool
    bisector: str
    python: str
    torch: str | None  # version, None where it cannot be imported
    packages: "list[Package]"
    extras: "list[Extra]"
    devices: "list[Device]"
    checks: "list[Check]"
    problems: list[str]

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return 0 if self.healthy else 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector doctor``."""
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> Health:
    """Look, check, print."""
    from importlib.metadata import PackageNotFoundError, requires

    from bisector.benchmarks.installed import Imports, extras_of, import_problem, packages_of

    say(f"bisector {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    try:
        wanted = extras_of(requires("bisector") or [])
    except PackageNotFoundError:  # it runs from a folder
        wanted = {}
    needed = {name: versions for packages in wanted.values() for name, versions in packages.items()}
    imports = Imports(needed)
    problems: list[str] = []
    devices: list[Device] = []
    found: list[Check] = []
    version = None
    problem = import_problem("torch")
    if problem is not None:
        problems.append(f"torch cannot be imported: {problem}")
    else:
        import torch

        version = torch.__version__
        problems += _compute(devices, found)
    for line in (f"torch {version}", *_devices(devices), *_checks(found)) if version else ():
        say(line)
    progress("importing the packages of all extras")
    packages = packages_of(needed, imports.problems())
    progress("")
    extras = [_extra(name, packages, set(own)) for name, own in wanted.items()]
    say(_installed(packages, extras))
    problems += [
        f"{one.name} {one.version}: {one.problem}" for one in packages if one.version and one.problem
    ]
    problems += [f"{one.name}: {one.problem or _apart(one)}" for one in found if not one.passed]
    say("\n".join(["", *(f"Wrong: {problem}" for problem in problems)]) if problems else "\nAll is well.")
    return Health(
        healthy=not problems,
        bisector=__version__,
        python=platform.python_version(),
        torch=version,
        packages=packages,
        extras=extras,
        devices=devices,
        checks=found,
        problems=problems,
    )


def _compute(devices: "list[Device]", found: "list[Check]") -> list[str]:
    """Fill in devices and checks; return what kept them from being found."""
    from bisector.benchmarks.installed import problem_of

    try:
        from bisector.benchmarks import self_check

        devices += self_check.devices()
        kinds = dict.fromkeys(device.name.partition(":")[0] for device in devices)
        for kind in kinds:
            found += self_check.checks(kind)
    except Exception as error:  # of a broken installation nothing is certain
        return [f"the self-check ended: {problem_of(error)}"]
    return []


def _extra(name: str, packages: "Sequence[Package]", own: set[str]) -> "Extra":
    from bisector.benchmarks.installed import Extra

    mine = [package for package in packages if package.name in own]
    missing = [package.name for package in mine if package.version is None]
    broken = [package.name for package in mine if package.version is not None and package.problem]
    return Extra(name, [package.name for package in mine], missing, broken, install_command(name))


def _devices(devices: "Sequence[Device]") -> list[str]:
    from bisector.training.precision import SLOW

    lines = []
    for one in devices:
        memory = "" if one.memory_bytes is None else f", {one.memory_bytes / 2**30:.0f} GiB"
        slow = one.bf16_slowdown or 0
        bf16 = (
            f"bf16 {slow:.2g} times as slow as float32"
            if slow > SLOW
            else f"bf16 {'yes' if one.bf16 else 'no'}"
        )
        lines.append(f"  {one.name:<10} {one.description}{memory}, {bf16}")
    return lines


def _checks(found: "Sequence[Check]") -> list[str]:
    """One line a device and backend."""
    groups: dict[str, list[Check]] = {}
    for check in found:
        groups.setdefault(
            check.name.rpartition(" ")[0] if check.name.count(" ") > 1 else check.name, []
        ).append(check)
    lines = []
    for name, checks in groups.items():
        wrong = [check.name.rpartition(" ")[2] for check in checks if not check.passed]
        worst = max((check.difference for check in checks), default=0.0)
        told = f"WRONG: {', '.join(wrong)}" if wrong else f"right, differs by {worst:.0e} at most"
        lines.append(f"  {name:<24} {told}")
    return lines


def _apart(check: "Check") -> str:
    return f"differs from the plain formula by {check.difference:.2g}, more than {check.bound:.0e}"


def _installed(packages: "Sequence[Package]", extras: "Sequence[Extra]") -> str:
    if not extras:
        return "Extras: unknown, since bisector runs from a folder and is not installed"
    lines = ["Extras:"]
    for extra in extras:
        state = [f"missing {', '.join(extra.missing)}: {extra.install}"] * bool(extra.missing)
        state += [f"broken: {', '.join(extra.broken)}"] * bool(extra.broken)
        lines.append(f"  {extra.name:<12} {'; '.join(state) or 'there'}")
    there = ", ".join(f"{package.name} {package.version}" for package in packages if package.version)
    width = max(60, min(110, shutil.get_terminal_size((100, 24)).columns))
    return "\n".join([*lines, *textwrap.wrap(there, width, initial_indent="  ", subsequent_indent="  ")])
