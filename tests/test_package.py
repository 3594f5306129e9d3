import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bisector as bs


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh process holds after a statement."""
    tell = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    program = [sys.executable, "-c", f"{statement}\n{tell}"]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_else() -> None:
    assert loaded_after("import bisector") - loaded_after("import typing, importlib") == {"bisector"}


@pytest.mark.slow
def test_the_library_brings_torch_at_most() -> None:
    everything = "import bisector\nfor name in bisector.__all__: getattr(bisector, name)"
    others = loaded_after(everything) - loaded_after("import torch") - sys.stdlib_module_names
    assert others == {"bisector"}


PACKAGES = [bs.__name__] + [
    f"bisector.{info.name}" for info in pkgutil.iter_modules(bs.__path__) if info.ispkg
]


def test_every_package_lists_its_public_names_before_any_is_imported() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {PACKAGES!r}:\n"
        "    package = importlib.import_module(name)\n"
        "    public = set(getattr(package, '__all__', ()))\n"
        "    assert public <= set(dir(package)), (name, public - set(dir(package)))\n"
        "    assert '__doc__' in dir(package)\n"
        "    heavy = {'lightning', 'torchvision'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["bisector", "bisector.training", "bisector.detection"])
def test_a_lazy_package_gives_what_it_lists_and_keeps_it(name: str) -> None:
    package = importlib.import_module(name)
    found: dict[str, object] = {}
    exec(f"from {name} import *", found)
    for public in package.__all__:
        assert getattr(package, public) is found[public] is vars(package)[public]
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'no_such'"):
        package.no_such  # noqa: B018


@pytest.mark.parametrize("name", bs.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(bs, name)
    assert name in dir(bs)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
        assert value.__name__ == name


def test_the_stub_makes_each_name_the_packages_own_where_it_is() -> None:
    tree = ast.parse(Path(bs.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    names = []
    for node in tree.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        (alias,) = node.names
        assert alias.asname == alias.name  # what makes it the package's own name
        names.append(alias.name)
        value = getattr(bs, alias.name)
        assert value is getattr(sys.modules[node.module], alias.name)
    assert len(names) == len(set(names))
    assert set(bs.__all__) <= set(names)


def test_rooms_are_reached_as_attributes_and_unknown_names_are_not() -> None:
    assert bs.heads.HEADS is bs.HEADS
    assert bs.functional.__name__ == "bisector.functional"
    with pytest.raises(AttributeError, match="module 'bisector' has no attribute 'AMSoftMax'"):
        bs.AMSoftMax  # noqa: B018
