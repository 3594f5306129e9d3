"""Read a stored adjustment of any kind."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from bisector.files import read_safetensors, reading, write_safetensors
from bisector.posthoc.adjustment import Adjustment, BaseAdjustment
from bisector.posthoc.geometry import GeometryAdjustment
from bisector.posthoc.linear import LinearAdjustment

KINDS: dict[str, type[GeometryAdjustment] | type[LinearAdjustment]] = {
    "geometry_adjustment": GeometryAdjustment,
    "linear_adjustment": LinearAdjustment,
}
"""The adjustments that are safetensors, by the entry of the metadata that only they have."""


def load_adjustment(path: Path | str) -> BaseAdjustment:
    """Read what the `save` of any adjustment wrote: safetensors by this suffix, else JSON.

    Raises:
        DamagedFileError: the file holds no adjustment.
        MissingExtraError: safetensors is not installed.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        return Adjustment.load(path)
    with reading(f"path: got {path}; expected the safetensors of an adjustment"):
        texts = read_safetensors(path)[1]
        kind = next((kind for entry, kind in KINDS.items() if entry in texts), None)
        if kind is None:
            raise ValueError("a geometry alone" if "class_geometry" in texts else "other tensors")
        return kind.load(path)


_JSON = "json"


def packed(adjustment: BaseAdjustment) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and texts of which `unpacked` makes an adjustment again: to be kept in another file.

    Raises:
        MissingExtraError: safetensors is not installed.

    >>> import torch
    >>> unpacked(*packed(Adjustment(torch.tensor([0.0, 0.5])))).offsets
    tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("a.json" if isinstance(adjustment, Adjustment) else "a.safetensors")
        adjustment.save(path)
        return ({}, {_JSON: path.read_text("utf-8")}) if path.suffix == ".json" else read_safetensors(path)


def unpacked(tensors: Mapping[str, Tensor], texts: dict[str, str]) -> BaseAdjustment:
    """Return the adjustment of `packed`.

    Raises:
        DamagedFileError: they are none.
        MissingExtraError: safetensors is not installed.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("a.json" if _JSON in texts else "a.safetensors")
        if path.suffix == ".json":
            path.write_text(texts[_JSON], "utf-8")
        else:
            write_safetensors(path, tensors, texts)
        return load_adjustment(path)
