"""Data sets that a Python file makes: ``--data path/to/file.py:option=value``, as docs/plugins.md shows.

Nothing is registered. The words after ``--data`` say which file it is, so that whatever stores them (settings of a
training, a file of embeddings) finds the data set again, from another process too.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bisector.errors import ArgumentError, parsed_options, reason_of, require


@dataclass(frozen=True)
class Plugin:
    """A Python file that makes a data set, and the options that were given after its name."""

    file: Path  # as it was given
    options: Mapping[str, str]  # their names and values, both as text

    def call(self, function: str, kind: type, *arguments: object) -> Any:
        """Import the file, call a function of it with these arguments and the options, and return its data set.

        Args:
            function: "load_source" for a classifier's data, "load_boxes" for a detector's.
            kind: of what it returns.
            arguments: come before the options.

        Raises:
            ArgumentError: the file is not there or cannot be imported, or has no such function, or that returned
                something else.
        """
        module = _imported(self.file)
        make: Callable[..., object] | None = getattr(module, function, None)
        if make is None:
            raise ArgumentError(
                f"data: {self.file}: has no function {function}, which would make this data set"
            )
        made = make(*arguments, self.options)
        got = f"{type(made).__name__} from {function} of {self.file}"
        require(isinstance(made, kind), "data", got, f"a {kind.__module__}.{kind.__name__}")
        return made


def plugin_of(data: str) -> Plugin | None:
    """Return the plugin that the words after --data name; None if they name no Python file.

    Raises:
        ArgumentError: what follows the file's name is not ``:option=value``, or gives an option twice.

    >>> plugin_of("scenes.py:size=64:flip=yes").options
    {'size': '64', 'flip': 'yes'}
    >>> plugin_of("photos/") is None
    True
    """
    found = re.fullmatch(r"(.+?\.py)(:.*)?", data.strip(), flags=re.DOTALL)
    if found is None or Path(found[1]).expanduser().is_dir():
        return None
    options = parsed_options("data", data, (found[2] or "").split(":")[1:])
    return Plugin(Path(found[1]).expanduser(), options)


def _imported(file: Path) -> ModuleType:
    """Import a file under the name by which every other process finds it, too.

    As Python does with the folder of a script, the file's folder is put on the module search path, or the folder
    around its package. Processes that are started from here get that path, and can read objects of the module's
    classes from a pickle.
    """
    file = file.absolute()
    require(file.is_file(), "data", f"{str(file)!r}, where no file is", "a Python file that makes a data set")
    folder, words = file.parent, [file.stem]
    while (folder / "__init__.py").is_file():
        words.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    name = ".".join(words)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ArgumentError(f"data: {file}: cannot be imported: {reason:.300}") from error
    other = getattr(module, "__file__", None)
    if other is None or not Path(other).exists() or not Path(other).samefile(file):
        where = other or "a part of Python"
        raise ArgumentError(f"data: {file}: {where} is called {name!r} too; expected a name of its own")
    return module
