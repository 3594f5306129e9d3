"""Tensors that PyTorch or safetensors wrote, as named arrays read a slice at a time; no pickled program is run."""

import json
import pickle
import shlex
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables.columns import Array
from bisector.errors import ArgumentError, DamagedFileError, require
from bisector.files import reading, require_safetensors

TORCH = (".pt", ".pth")
SAFETENSORS = ".safetensors"
TENSORS = (*TORCH, SAFETENSORS)
PICKLES = (".pkl", ".pickle", ".joblib")

_LISTED = (str, bytes, int, float, type(None), list, tuple, dict)  # of these what reads a column says more
_LIST = "words, numbers, or tensors of one shape"
_EXPECTED = "a dictionary of tensors (embeddings, labels, scores, ...), or a pair of them: vectors and labels"


class SlicedTensor:
    """A tensor in a file, of which slices of rows are read as numpy.

    Args:
        rows: gives the rows from one to another as a tensor.
        shape: of all.
        told: the file and the name, for messages.
    """

    def __init__(self, rows: Any, shape: tuple[int, ...], told: str) -> None:
        self._rows, self.shape, self._told = rows, shape, told
        self.dtype = self[0:0].dtype

    def __getitem__(self, rows: slice) -> Array:
        try:
            return _as_array(self._rows[rows])
        except Exception as error:  # of a damaged file anything
            raise ArgumentError(f"file: {self._told}, cannot be read: {_line(error)}") from None


def tensors_in(path: Path) -> tuple[dict[str, SlicedTensor | Array], tuple[str, ...] | None]:
    """The arrays of a file by name, those of tensors unread, and the names of the classes where the file has them.

    Lists of words or numbers are arrays too, and so are lists of tensors of one shape. A
    pair is "embeddings", the one of two axes, and "labels".

    Raises:
        ArgumentError: it is no such file, or a pickle that PyTorch does not load as weights alone.
        MissingExtraError: without safetensors.
    """
    if path.suffix.lower() == SAFETENSORS:
        return _safetensors(path)
    content = _torch(path)
    pair = isinstance(content, (tuple, list)) and len(content) == 2
    if pair and all(isinstance(one, Tensor) for one in content):
        first, second = content if content[0].ndim >= content[1].ndim else content[::-1]
        content = {"embeddings": first, "labels": second}
    require(isinstance(content, dict), "file", f"{path} with {_kind(content)}", _EXPECTED)
    found: dict[str, SlicedTensor | Array] = {}
    for key, held in content.items():
        told = f"{path}, {key!r}"
        listed = isinstance(held, (list, tuple)) and any(isinstance(one, Tensor) for one in held)
        value = _stacked(held, told) if listed else held
        if isinstance(value, Tensor):
            dense = value.layout == torch.strided and not value.is_quantized
            require(dense, "file", f"{told}, a sparse or quantized tensor", "a dense one")
            rows = value.detach() if value.ndim else value.detach()[None]
            found[str(key)] = SlicedTensor(rows, tuple(rows.shape), told)
        elif isinstance(value, (list, tuple)) and value:
            column = np.empty(len(value), dtype=object)
            column[:] = value
            strange = next((one for one in value if not isinstance(one, _LISTED)), None)
            require(strange is None, "file", f"{told}, a list of {type(strange).__name__}", _LIST)
            found[str(key)] = np.array(value) if {*map(type, value)} in ({str}, {int}, {float}) else column
    return found, None


def check_tensors(path: Path) -> None:
    """Raise `ArgumentError` where a byte of PyTorch's archive has changed; it reads all of it."""
    if path.suffix.lower() in TORCH and zipfile.is_zipfile(path):
        with reading(f"file: got {path}; expected {_EXPECTED}"), zipfile.ZipFile(path) as packed:
            damaged = packed.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} is damaged")


def refused_pickle(path: str | Path) -> DamagedFileError:
    """The error for a file that can only be read by running what is in it, with the line that converts it.

    >>> print(refused_pickle("a.pkl"))
    file: got a.pkl, a pickle: to read it is to run whatever is in it; expected arrays. Of a dictionary or a table
    that you trust this makes them: python -c 'import pickle, numpy; ...'
    """
    path = Path(path)
    name, suffix = str(path), path.suffix.lower()
    if suffix in TORCH:
        to = str(path.with_name(f"{path.stem}-tensors.pt"))
        code = (
            f"import torch; d = torch.load({name!r}, weights_only=False); "
            f"torch.save({{k: torch.as_tensor(d[k]) for k in d}}, {to!r})"
        )
    elif suffix == ".npy":
        to = str(path.with_name(f"{path.stem}-array.npy"))
        code = (
            f"import numpy; numpy.save({to!r}, numpy.array(numpy.load({name!r}, allow_pickle=True).tolist()))"
        )
    else:
        load = "joblib.load({0!r})" if suffix == ".joblib" else "pickle.load(open({0!r}, 'rb'))"
        module = "joblib" if suffix == ".joblib" else "pickle"
        load = f"numpy.load({name!r}, allow_pickle=True)" if suffix == ".npz" else load.format(name)
        to = str(path.with_name(f"{path.stem}-arrays.npz" if suffix == ".npz" else f"{path.stem}.npz"))
        imports = "numpy" if suffix == ".npz" else f"{module}, numpy"
        code = (
            f"import {imports}; d = {load}; numpy.savez({to!r}, **{{k: numpy.array(list(d[k])) for k in d}})"
        )
    return DamagedFileError(
        f"file: got {path}, a pickle: to read it is to run whatever is in it; expected arrays. Of a dictionary "
        f"or a table that you trust this makes them: python -c {shlex.quote(code)}"
    )


def _torch(path: Path) -> Any:
    complaint = f"file: got {path}; expected {_EXPECTED}"
    with reading(complaint):
        mapped = zipfile.is_zipfile(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            told = str(error)
            if "Unsupported" in told or "GLOBAL" in told or "WeightsUnpickler error" in told:
                raise refused_pickle(path) from None
            raise


def _safetensors(path: Path) -> tuple[dict[str, SlicedTensor | Array], tuple[str, ...] | None]:
    package = require_safetensors()
    with reading(f"file: got {path}; expected a readable .safetensors file"):
        file = package.safe_open(str(path), "pt")
        names, notes = list(file.keys()), file.metadata() or {}
        found: dict[str, SlicedTensor | Array] = {}
        for name in names:
            part = file.get_slice(name)
            shape = tuple(part.get_shape())
            rows = part if shape else file.get_tensor(name)[None]
            found[name] = SlicedTensor(rows, shape or (1,), f"{path}, {name!r}")
        text = next((notes[key] for key in ("class_names", "classes") if key in notes), None)
        classes = None if text is None else json.loads(text)
    fits = classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))
    require(fits, "file", f"{path} with {str(text)[:40]!r} as class_names", "a JSON list of names")
    return found, None if classes is None else tuple(classes)


def _as_array(rows: Tensor) -> Array:
    rows = rows.to("cpu")
    if rows.is_floating_point() and rows.dtype not in {torch.float16, torch.float32, torch.float64}:
        rows = rows.float()  # bfloat16 and shorter ones, which numpy does not know
    return rows.numpy()


def _stacked(tensors: Sequence[Any], told: str) -> Tensor:
    """Tensors of one shape as rows of one."""
    other = next((one for one in tensors if not isinstance(one, Tensor)), None)
    require(other is None, "file", f"{told}, a list of tensors and of {type(other).__name__}", _LIST)
    dense = all(one.layout == torch.strided and not one.is_quantized for one in tensors)
    require(dense, "file", f"{told}, sparse or quantized tensors", "dense ones")
    shapes = sorted({tuple(one.shape) for one in tensors})
    require(len(shapes) == 1, "file", f"{told}, tensors of the shapes {shapes[:3]}", "one shape")
    return torch.stack([one.detach().cpu() for one in tensors])


def _kind(content: Any) -> str:
    if isinstance(content, Tensor):
        return f"one tensor of shape {tuple(content.shape)}"
    return f"a {type(content).__name__}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
