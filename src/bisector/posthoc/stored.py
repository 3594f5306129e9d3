"""Read a stored adjustment of any kind."""

from pathlib import Path

from bisector.files import read_safetensors, reading
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
