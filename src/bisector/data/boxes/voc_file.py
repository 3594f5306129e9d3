"""Parses the annotations of a Pascal VOC folder."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bisector.errors import ArgumentError, missing_extra

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)

Annotation = dict[str, Any]


@dataclass(frozen=True)
class VocList:
    """One list of images of a VOC folder, parsed: their names (without a suffix) and what is said of each."""

    name: str
    images: tuple[str, ...]
    annotations: tuple[Annotation, ...]

    def class_names(self) -> set[str]:
        """The names that occur."""
        return {thing["name"] for annotation in self.annotations for thing in annotation["object"]}


def voc_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """The images of each list in ImageSets/Main that is not of one class alone: train, val, trainval, test."""
    lists = {}
    for name in ("train", "val", "trainval", "test"):
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            lists[name] = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return lists


def parse_voc(folder: Path, name: str, images: Iterable[str]) -> VocList:
    """Parse the annotations of some images with torchvision.

    Raises:
        ArgumentError: if one is missing or is no VOC annotation.
        MissingExtraError: if torchvision is not installed.
    """
    try:
        from torchvision.datasets import VOCDetection
    except ImportError:
        raise missing_extra("torchvision", "detection") from None
    images = tuple(images)
    there = frozenset(os.listdir(folder / "Annotations"))  # noqa: PTH208 - one listing, names alone
    lost = [f"{image}.xml" for image in images if f"{image}.xml" not in there]
    if lost:
        some = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        raise ArgumentError(
            f"data: {len(lost):,} of {len(images):,} annotations of {name}.txt are missing: {some}"
        )
    return VocList(name, images, tuple(_parsed(VOCDetection, folder, image) for image in images))


def voc_class_names(lists: Iterable[VocList]) -> tuple[str, ...]:
    """VOC's twenty classes in their order where no other name occurs, else the names that occur, sorted."""
    found = set().union(*(some.class_names() for some in lists))
    if not found:
        raise ArgumentError("data: no annotation has a box; expected at least 1 class")
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def _parsed(voc: Any, folder: Path, image: str) -> Annotation:
    file = folder / "Annotations" / f"{image}.xml"
    try:
        annotation = voc.parse_voc_xml(ElementTree.parse(file).getroot()).get("annotation")
    except (ElementTree.ParseError, OSError, UnicodeError, ValueError) as error:
        raise ArgumentError(f"data: {file} cannot be read: {error}") from None
    # An annotation without children is no dict; one without an object has an empty list of them.
    things = annotation.get("object", []) if isinstance(annotation, dict) else None
    if things is None or not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in things):
        raise ArgumentError(f"data: {file} is no VOC annotation: expected objects with a name")
    return {**annotation, "object": things}
