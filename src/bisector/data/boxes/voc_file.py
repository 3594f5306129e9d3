"""Parses the annotations of a Pascal VOC folder."""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bisector.data.boxes.files import Names, files_below
from bisector.data.boxes.layout import SUBFOLDERS, voc_places
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.values import FLAGS, flag
from bisector.data.images import IMAGE_SUFFIXES
from bisector.errors import ArgumentError, missing_extra

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)

Annotation = dict[str, Any]

_SUFFIXES = IMAGE_SUFFIXES | {".xml"}

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
# Programs name a smaller set than they write, and an encoding of 16 bits in a file of bytes.
_MEANT = {"gb2312": "gb18030", "gbk": "gb18030", "utf-16": "utf-8", "utf16": "utf-8", "unicode": "utf-8"}


@dataclass(frozen=True)
class VocList:
    """One list of images of a VOC folder, parsed: their names (without a suffix) and what is said of each."""

    name: str
    images: tuple[str, ...]
    annotations: tuple[Annotation, ...]

    def class_names(self) -> set[str]:
        """The names that occur."""
        return {thing["name"] for annotation in self.annotations for thing in annotation["object"]}


class VocFiles:
    """What files a VOC folder has: annotations, images and lists; nothing is parsed yet.

    Args:
        folder: as `bisector.data.boxes.layout.find_voc` finds it.
        faults: is told what is passed over.

    Attributes:
        images: the files of images, by what an annotation may call them.
        image_folder: where they are to be, below the folder: "JPEGImages", "images" or "".
    """

    def __init__(self, folder: Path, faults: LeftOut) -> None:
        self.folder = folder
        xml, self.image_folder = voc_places(folder)
        below = [f"{xml}/{file}" if xml else file for file in files_below(folder / xml, faults)]
        found = [file for file in below if file.lower().endswith(".xml")]
        for file in found:
            if file.rpartition("/")[2].startswith("._"):
                faults.add("of macOS's own, not annotations, passed over", file, what="files")
        self._xml = Names([f for f in found if not f.rpartition("/")[2].startswith("._")], xml)
        place = self.image_folder
        listed = below if place == xml else files_below(folder / place, faults)
        listed = [f"{place}/{file}" for file in listed] if place and place != xml else listed
        self.images = Names([f for f in listed if Path(f).suffix.lower() in IMAGE_SUFFIXES], place)

    def lists(self) -> dict[str, tuple[str, ...]]:
        """The images of each list: train, val, trainval and test of ImageSets/Main, those of single classes joined.

        Without any, those of the subfolders train, valid and test where all annotations are in such; else one list,
        "train", of all.
        """
        place = self.folder / "ImageSets" / "Main"
        found: dict[str, tuple[str, ...]] = {}
        for start in ("", "*_"):
            for name in ("train", "val", "trainval", "test"):
                files = [file for file in sorted(place.glob(f"{start}{name}.txt")) if file.is_file()]
                lines = [line for file in files for line in _text(file).splitlines()]
                if files:
                    found[name] = tuple(dict.fromkeys(self._image(line) for line in lines if line.strip()))
            if found:
                return found
        parts: dict[str, list[str]] = {}
        for image in self._xml.stems():
            parts.setdefault(SUBFOLDERS.get(image.partition("/")[0], ""), []).append(image)
        if "" in parts or "train" not in parts:
            return {"train": tuple(self._xml.stems())}
        return {part: tuple(images) for part, images in parts.items()}

    def annotated(self) -> list[str]:
        """All images that have an annotation, sorted."""
        return self._xml.stems()

    def annotation(self, image: str) -> Path | None:
        """The file of the annotation of an image; None where there is none."""
        file = self._xml.exact(image)
        return None if file is None else self.folder / file

    def is_alone(self, image: str) -> bool:
        """Whether no other annotation has the last part of this one's name."""
        return self._xml.stem(image.rpartition("/")[2]) == image

    def _image(self, line: str) -> str:
        """The image that a line names: by its name, with a suffix, a path before it, a flag or its xml behind."""
        line = line.strip().replace("\\", "/")
        plain, first = re.sub(r"\s+-?[01]$", "", line), line.split()[0]
        names = [line, _bare(line), plain, _bare(plain), *([_bare(first)] if _bare(first) != first else [])]
        found = [stem for name in names if (stem := self._xml.stem(name)) is not None]
        return found[0] if found else _bare(plain)


def parse_voc(files: VocFiles, name: str, images: Sequence[str]) -> VocList:
    """Parse the annotations of some images with torchvision.

    Raises:
        ArgumentError: if one is missing or is no VOC annotation.
        MissingExtraError: if torchvision is not installed.
    """
    try:
        from torchvision.datasets import VOCDetection
    except ImportError:
        raise missing_extra("torchvision", "detection") from None
    found = [(image, files.annotation(image)) for image in images]
    lost = [f"{image}.xml" for image, file in found if file is None]
    if lost:
        some = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        raise ArgumentError(
            f"data: {len(lost):,} of {len(images):,} annotations of {name}.txt are missing: {some}; expected in "
            "each line the name of an image or its path, and at most a flag behind it: 1, 0 or -1"
        )
    parsed = tuple(_parsed(VOCDetection, file) for _, file in found if file is not None)
    return VocList(name, tuple(images), parsed)


def voc_class_names(lists: Iterable[VocList]) -> tuple[str, ...]:
    """VOC's twenty classes in their order where no other name occurs, else the names that occur, sorted."""
    found = set().union(*(some.class_names() for some in lists))
    if not found:
        raise ArgumentError("data: no annotation has a box; expected at least 1 class")
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def _parsed(voc: Any, file: Path) -> Annotation:
    text = _text(file)
    try:
        root = ElementTree.fromstring(text)
        for element in root.iter():  # without their namespaces
            element.tag = element.tag.rpartition("}")[2]
        annotation = voc.parse_voc_xml(root).get("annotation")
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ArgumentError(f"data: {file} cannot be read: {error}") from None
    # An annotation without children is no dict; one without an object has an empty list of them.
    things = annotation.get("object", []) if isinstance(annotation, dict) else None
    if things is None or not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in things):
        raise ArgumentError(f"data: {file} is no VOC annotation: expected objects with a name")
    for number, thing in enumerate(things, start=1):
        if flag(thing.get("difficult")) is None:
            got = f"object {number} ({thing['name']}) has difficult {thing['difficult']!r}"
            raise ArgumentError(f"data: {file}: {got}; expected {FLAGS}")
    return {**annotation, "object": things}


def _text(file: Path) -> str:
    """The text of a file in the encoding that its first bytes tell, UTF-8 where they tell none.

    ElementTree knows few encodings, and not "utf8", which its own `write` puts in a file where it is asked to.

    Raises:
        ArgumentError: if it cannot be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArgumentError(f"data: {file} cannot be read: {error.strerror or error}") from None
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    told = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", data[:300])
    if not encoding:
        encoding = told[1].decode().lower() if told else "utf-8"
        encoding = _MEANT.get(encoding, encoding)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except (UnicodeError, LookupError) as error:
        raise ArgumentError(
            f"data: {file} cannot be read: {error}; expected UTF-8, or XML that tells its encoding"
        ) from None


def _bare(name: str) -> str:
    """A name without the suffix of an image or an annotation."""
    start, _, suffix = name.rpartition(".")
    return start if start and f".{suffix.lower()}" in _SUFFIXES else name
