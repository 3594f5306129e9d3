"""The formats of an export, known without PyTorch: `bisector export --help` answers at once."""

from collections.abc import Mapping
from pathlib import Path

from bisector.errors import require

FORMATS: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
"""The suffix of each format."""

OPSET, OLDEST_OPSET, YOUNGEST_OPSET = 17, 14, 20
"""Versions of ONNX's operators: unless another is given, and those that PyTorch's exporter writes for us."""


def format_of(path: Path) -> str:
    """Return the format that the name of a file means, by its suffix.

    >>> format_of(Path("photos.pt2"))
    'torch'
    >>> format_of(Path("photos.pth"))
    Traceback (most recent call last):
    bisector.errors.ArgumentError: --out: got photos.pth; expected a name that ends in .onnx, .pt2, .safetensors
    """
    found = [name for name, suffix in FORMATS.items() if path.suffix.lower() == suffix]
    require(bool(found), "--out", str(path), f"a name that ends in {', '.join(FORMATS.values())}")
    return found[0]


def require_suffix(path: Path, format: str) -> None:
    """Raise `ArgumentError` where the name of a file means another format."""
    suffix = FORMATS[format]
    require(
        path.suffix.lower() == suffix,
        "--out",
        str(path),
        f"a name that ends in {suffix}, of --format {format}",
    )
