"""The fields of records such as `Task`, `Recipe` and `Machine` as flags, the same for every command that trains."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from bisector.training.recipe import options_of

Record = TypeVar("Record")


def add_options(parser: argparse.ArgumentParser, *kinds: type, without: Sequence[str] = ()) -> None:
    """Add a flag for every field of these records, such as ``--batch-size`` for ``batch_size``."""
    for kind in kinds:
        hints: dict[str, Any] = kind.__annotations__
        name = kind.__name__.lower().removeprefix("box")  # a BoxTask is detection's task
        group = parser.add_argument_group(f"{name}: {(kind.__doc__ or '').splitlines()[0]}")
        for name, default, text in options_of(kind):
            if name in without:
                continue
            flag = f"--{name.replace('_', '-')}"
            hint = hints[name]
            shown = text.replace("%", "%%") + ("" if default in {None, ""} else " (default: %(default)s)")
            if hint is bool:
                group.add_argument(
                    flag, action=argparse.BooleanOptionalAction, default=default, help=text.replace("%", "%%")
                )
            else:
                group.add_argument(flag, type=_reader(hint), default=default, help=shown, metavar=_word(hint))


def record_of(kind: type[Record], arguments: Any) -> Record:
    """Return the record that the flags say.

    Raises:
        ArgumentError: a value is out of its range.
    """
    names: list[str] = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)})


def process_rank() -> int:
    """Return the number of this process among those that train: Lightning starts the others with this command."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0))


def logging_options(out: Path, *, tensorboard: bool) -> dict[str, Any]:
    """Return the Trainer's options of what a training shows and logs."""
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = {"logger": TensorBoardLogger(out, name="tensorboard", version="")} if tensorboard else {}
    return {"enable_progress_bar": sys.stderr.isatty() or sys.stdout.isatty(), **logger}


def _reader(hint: Any) -> Any:
    """Return what turns a word into a value; "none" is one where it may be."""
    kinds = [kind for kind in getattr(hint, "__args__", (hint,)) if kind is not type(None)]
    kind = kinds[0]
    if type(None) not in getattr(hint, "__args__", ()):
        return kind

    def read(word: str) -> Any:
        return None if word.lower() in {"none", "null"} else kind(word)

    read.__name__ = kind.__name__  # for argparse's complaint
    return read


def _word(hint: Any) -> str:
    kind = next(kind for kind in getattr(hint, "__args__", (hint,)) if kind is not type(None))
    return {"int": "N", "float": "X"}.get(kind.__name__, "WORD")
