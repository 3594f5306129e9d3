"""The folder of partials: whose they are, whether they are still of use, and that one command works in it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bisector._version import __version__
from bisector.errors import ArgumentError, DamagedFileError
from bisector.files import place_of, read_json, reading, write_whole
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import VERSION

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings

_PLAN = "plan.json"
_PREFIX = "measured-"


def plan_of(stored: "StoredEmbeddings", options: Options) -> dict[str, Any]:
    """Everything that partials depend on: versions, the files with size and time, what is read of them, options."""
    reader, classes = stored.reader, stored.classes
    values = None if classes.values is None else classes.values.tolist()
    return {
        "versions": {"partials": VERSION, "bisector": __version__, "torch": torch.__version__},
        "data": {
            "parts": digest(stored.parts),
            "rows": stored.rows,
            "dim": stored.dim,
            "files": reader.stamps,
        },
        "columns": {
            "names": dict(sorted(reader.columns.items())),
            "scores": [stored.num_scores, reader.scores_name, stored.kind],
            "classes": digest((classes.names, classes.by_name, values)),
            "counts": digest((stored.counts.tolist(), stored.train_only)),
            "splits": dict(stored.split_rows),
        },
        "options": asdict(options),
    }


def digest(what: object) -> str:
    """Sixteen hexadecimal digits of a value's `repr`."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


@contextmanager
def partials_folder(folder: Path, plan: dict[str, Any], tell: Callable[[str], None]) -> Iterator[Path]:
    """The folder inside of `folder` for the partials of this plan, in which nobody else works meanwhile.

    Those of another plan are removed: the data, the options or a version are others now.

    Args:
        folder: of partials; made if it is not there.
        plan: see `plan_of`.
        tell: is given a line where partials were found.

    Raises:
        ArgumentError: if another command works there.
        OSError: if the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = _own(folder, plan)
    with _locked(folder):
        for other in sorted(folder.glob(f"{_PREFIX}*")):
            if other != own:
                tell(f"the partials in {folder} are of {_different(other / _PLAN, plan)}: starting anew")
                shutil.rmtree(other)
        if any(own.glob("L*.pt")):
            tell(f"going on from the partials in {folder}")
        own.mkdir(exist_ok=True)
        write_whole(own / _PLAN, json.dumps(plan, indent=1))
        yield place_of(own)


def remove_partials(folder: Path, plan: dict[str, Any]) -> None:
    """Remove the partials of this plan; what else is in the folder stays, and so does its lock.

    Somebody may wait for that very file: a new one of the same name would let in two.

    Raises:
        ArgumentError: if another command works there: they are its own now.
    """
    own = _own(folder, plan)
    if own.is_dir():
        with _locked(folder):
            shutil.rmtree(own, ignore_errors=True)


def _own(folder: Path, plan: dict[str, Any]) -> Path:
    return folder / f"{_PREFIX}{digest(plan)}"


def _different(path: Path, plan: dict[str, Any]) -> str:
    names = {
        "versions": "another version",
        "data": "other data",
        "columns": "other columns",
        "options": "other options",
    }
    try:
        with reading(f"partials: got {path}; expected the plan of a measurement"):
            old = read_json(path)
            return " and ".join(name for key, name in names.items() if old.get(key) != _json(plan[key]))
    except (OSError, DamagedFileError):
        return "an unfinished start"


def _json(value: object) -> Any:
    return json.loads(json.dumps(value))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process however it ends; without one where there are none."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(
                f"partials: got {folder}, in which another bisector measure works; expected a folder of its own"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
