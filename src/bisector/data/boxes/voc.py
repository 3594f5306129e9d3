"""Reads Pascal VOC folders: Annotations/*.xml, ImageSets/Main/*.txt and JPEGImages."""

import codecs
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from bisector.data.boxes.annotations import FLAGS, Annotation, ImageInfo, LeftOut, flag, number, pictures_of
from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.layout import SUBFOLDERS, files_below, require_images, voc_places
from bisector.data.boxes.picture import stored_size
from bisector.data.images import IMAGE_SUFFIXES
from bisector.errors import ArgumentError

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)

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


def read_voc(folder: Path, *, skip_missing: bool = False, need_images: bool = True) -> dict[str, BoxSet]:
    """Read the parts of a VOC folder: "train" and, where its lists have them, "validation" and "test".

    Coordinates are taken as they stand, as torchvision and most programs do, and scored as they stand. (VOC's own
    count pixels from 1, the last one in: read so, a box begins one pixel late. Those of other programs do not.)
    Objects marked difficult are crowds: not trained on, and ignored when scored. Images whose file is missing are
    an error, or left out and reported (`skip_missing`), or kept (without `need_images`), to be scored against.

    Raises:
        ArgumentError: if annotations or image files are missing, or an annotation is none.
    """
    faults = LeftOut(folder.name)
    files = _VocFiles.of(folder, faults)
    lists = _lists(folder, files.xml)
    notes = list(faults.lines())
    names = {"train": "train", "validation": "val", "test": "test"}
    if "trainval" in lists and not {"train", "val"} <= set(lists):
        names = {"train": "trainval", "test": "test"}
    if names["train"] not in lists:
        held = set().union(*lists.values())
        lists["train"] = tuple(image for image in files.xml.stems() if image not in held)
        notes.append(
            f"{folder.name}: no train.txt: {len(lists['train']):,} images that are in no list are for it"
        )
    # Of VOC 2012 the list of test images is public, their annotations are not.
    if "test" in lists and not any(files.xml.exact(image) for image in lists["test"]):
        notes.append(f"{folder.name}: test.txt has no annotations: no test part")
        del lists["test"]
    parsed = {part: _annotations(files, name, lists[name]) for part, name in names.items() if lists.get(name)}
    if "train" not in parsed:
        raise ArgumentError(f"data: no image in {names['train']}.txt of {folder}")
    found = {
        element.name for some in parsed.values() for annotation in some for element in annotation.objects
    }
    if not found:
        raise ArgumentError("data: no annotation has a box; expected at least 1 class")
    classes = VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))
    parts: dict[str, BoxSet] = {}
    first = 1
    for part, annotations in parsed.items():  # in this order: an id says which part a picture is of
        numbered = dict(enumerate(annotations, first))
        name = f"{folder.name} {names[part]}"
        parts[part] = _box_set(files, numbered, classes, name, skip_missing, need_images)
        first += len(annotations)
    parts["train"].left_out += tuple(notes)
    return parts


class _Names:
    """Files by what others may call them: by path below `place` or, where it is one file's alone, its last part.

    >>> names = _Names(["JPEGImages/a.png", "JPEGImages/b/c.jpg"], "JPEGImages")
    >>> names.exact("a"), names.exact("c.jpg"), names.file("c.jpg"), names.stem("/data/JPEGImages/b/c")
    ('JPEGImages/a.png', None, 'JPEGImages/b/c.jpg', 'b/c')
    """

    def __init__(self, files: Iterable[str], place: str) -> None:
        self._file: dict[str, str] = {}
        self._stem: dict[str, str] = {}
        last: dict[str, set[str]] = {}
        for file in sorted(files):
            own = file.removeprefix(f"{place}/")
            folder, slash, inner = own.rpartition("/")
            stem = folder + slash + (inner.rpartition(".")[0] or inner)
            for name in (own, stem):
                self._file.setdefault(name, file)
                self._stem.setdefault(name, stem)
                last.setdefault(name.rpartition("/")[2], set()).add(stem)
        self._last = {name: next(iter(stems)) for name, stems in last.items() if len(stems) == 1}

    def exact(self, name: str) -> str | None:
        """The path of the file of this name, which needs no suffix."""
        return self._file.get(name)

    def stem(self, name: str) -> str | None:
        """The name without a suffix, as `stems` has it, of the file that is called so, with any path before it."""
        while name not in self._stem:
            _, slash, inner = name.partition("/")  # of /data/JPEGImages/b/c next data/JPEGImages/b/c
            if not slash:
                return self._last.get(name)
            name = inner
        return self._stem[name]

    def file(self, name: str) -> str | None:
        """The path of the file that is called so, with any path before it."""
        stem = self.stem(name)
        return None if stem is None else self._file.get(name, self._file[stem])

    def stems(self) -> list[str]:
        """The names of all files, without a suffix, sorted."""
        return sorted(set(self._stem.values()))


@dataclass(frozen=True)
class _VocFiles:
    """The annotations and the images of a folder, by name; nothing is parsed yet."""

    folder: Path
    xml: _Names
    images: _Names
    place: str  # of the images, below the folder: "JPEGImages", "images" or ""

    @classmethod
    def of(cls, folder: Path, faults: LeftOut) -> "_VocFiles":
        xml, place = voc_places(folder)
        below = {name: files_below(folder / name, faults) for name in dict.fromkeys((xml, place))}
        annotations = []
        for file in below[xml]:
            path = f"{xml}/{file}" if xml else file
            if path.rpartition("/")[2].startswith("._") and path.lower().endswith(".xml"):
                faults.add("of macOS's own, not annotations, passed over", path, what="files")
            elif path.lower().endswith(".xml"):
                annotations.append(path)
        images = [
            f"{place}/{file}" if place else file
            for file in below[place]
            if Path(file).suffix.lower() in IMAGE_SUFFIXES
        ]
        return cls(folder, _Names(annotations, xml), _Names(images, place), place)


class _Object(NamedTuple):
    """An object of an annotation."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


class _ImageXml(NamedTuple):
    """The XML of one image."""

    image: str
    file: str | None  # as the XML has it
    size: tuple[float, float]
    objects: list[_Object]


def _box_set(
    files: _VocFiles,
    annotations: Mapping[int, _ImageXml],
    class_names: Sequence[str],
    name: str,
    skip_missing: bool,
    need_images: bool,
) -> BoxSet:
    faults = LeftOut(name)
    labels = {own: label for label, own in enumerate(class_names, 1)}
    infos: list[ImageInfo] = []
    rows: list[list[Annotation]] = []
    lost = []
    next_id = 1
    for own_id, annotation in annotations.items():
        file = _image_file(annotation, files)
        if file is None and need_images:
            lost.append(f"{annotation.image}.jpg (image {own_id})")
            continue
        file = file or f"{files.place}/{annotation.image}.jpg".removeprefix("/")
        width, height = annotation.size
        if not (width >= 1 and height >= 1):  # programs that do not know it write 0; NaN is not >= 1
            width, height = stored_size(files.folder / file)
        infos.append(ImageInfo(own_id, file, int(width), int(height)))
        rows.append([])
        for own, (class_name, corners, difficult) in enumerate(annotation.objects, next_id):
            x1, y1, x2, y2 = corners
            written = (x1, y1, x2 - x1, y2 - y1)
            rows[-1].append(Annotation(own, labels[class_name], corners, difficult, math.nan, written))
        next_id += len(rows[-1])
    folder = files.folder / files.place
    require_images(lost, len(annotations), folder, faults, skip_missing=skip_missing)
    return BoxSet(
        pictures_of(infos, rows, faults),
        class_names,
        name=name,
        style="voc",
        left_out=faults.lines(),
        root=files.folder if files.images.stems() else None,
    )


def _image_file(annotation: _ImageXml, files: _VocFiles) -> str | None:
    """VOC's own is the list's name with .jpg; others' may have another suffix, or the name in the XML."""
    image, images = annotation.image, files.images
    named = image if annotation.file is None else annotation.file.replace("\\", "/")
    found = [
        images.exact(name) for name in (f"{image}.jpg", image, f"{image.rpartition('/')[0]}/{named}", named)
    ]
    # In another folder a name is that of the image only where no other annotation has it.
    if files.xml.stem(image.rpartition("/")[2]) == image:
        found += [images.file(name) for name in (image, named)]
    return next((file for file in found if file is not None), None)


def _lists(folder: Path, xml: _Names) -> dict[str, tuple[str, ...]]:
    """The images of each list: train, val, trainval and test of ImageSets/Main, those of single classes joined.

    Without any, those of the subfolders train, valid and test where all annotations are in such; else one list,
    "train", of all.
    """
    place = folder / "ImageSets" / "Main"
    found: dict[str, tuple[str, ...]] = {}
    for start in ("", "*_"):
        for name in ("train", "val", "trainval", "test"):
            files = [file for file in sorted(place.glob(f"{start}{name}.txt")) if file.is_file()]
            lines = [line for file in files for line in _text(file).splitlines()]
            if files:
                found[name] = tuple(dict.fromkeys(_listed(line, xml) for line in lines if line.strip()))
        if found:
            return found
    parts: dict[str, list[str]] = {}
    for image in xml.stems():
        parts.setdefault(SUBFOLDERS.get(image.partition("/")[0], ""), []).append(image)
    if "" in parts or "train" not in parts:
        return {"train": tuple(xml.stems())}
    return {part: tuple(images) for part, images in parts.items()}


def _listed(line: str, xml: _Names) -> str:
    """The image that a line names: by its name, with a suffix, a path before it, a flag or its xml behind."""
    line = line.strip().replace("\\", "/")
    plain, first = re.sub(r"\s+-?[01]$", "", line), line.split()[0]
    names = [line, _bare(line), plain, _bare(plain), *([_bare(first)] if _bare(first) != first else [])]
    found = (xml.stem(name) for name in names)
    return next((stem for stem in found if stem is not None), _bare(plain))


def _bare(name: str) -> str:
    """A name without the suffix of an image or an annotation."""
    start, _, suffix = name.rpartition(".")
    return start if start and f".{suffix.lower()}" in _SUFFIXES else name


def _annotations(files: _VocFiles, name: str, images: Sequence[str]) -> list[_ImageXml]:
    found = [(image, files.xml.exact(image)) for image in images]
    lost = [f"{image}.xml" for image, file in found if file is None]
    if lost:
        some = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        raise ArgumentError(
            f"data: {len(lost):,} of {len(images):,} annotations of {name}.txt are missing: {some}; expected in "
            "each line the name of an image or its path, and at most a flag behind it: 1, 0 or -1"
        )
    return [_parsed(image, files.folder / file) for image, file in found if file is not None]


def _parsed(image: str, file: Path) -> _ImageXml:
    text = _text(file)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ArgumentError(f"data: {file} cannot be read: {error}") from None
    for element in root.iter():  # without their namespaces
        element.tag = element.tag.rpartition("}")[2]
    elements = _given(root, "object")
    if root.tag != "annotation" or not len(root) or not all(_value(element, "name") for element in elements):
        raise ArgumentError(f"data: {file} is no VOC annotation: expected objects with a name")
    objects = []
    for count, element in enumerate(elements, start=1):
        name, box = str(_value(element, "name")), _only(element, "bndbox")
        x1, y1, x2, y2 = (number(_value(box, side)) for side in ("xmin", "ymin", "xmax", "ymax"))
        given = _given(element, "difficult")
        difficult = flag(_value(element, "difficult"))
        if difficult is None or len(given) > 1 or any(map(len, given)):
            shown = [ElementTree.tostring(one, "unicode") if len(one) else one.text for one in given]
            got = f"object {count} ({name}) has difficult {' and '.join(map(repr, shown))}"
            raise ArgumentError(f"data: {file}: {got}; expected {FLAGS}")
        objects.append(_Object(name, (x1, y1, x2, y2), difficult))
    size = _only(root, "size")
    width, height = (number(_value(size, side)) for side in ("width", "height"))
    return _ImageXml(image, _value(root, "filename"), (width, height), objects)


def _given(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """The children of a tag that hold anything."""
    return [child for child in element.findall(tag) if child.text or len(child)]


def _only(element: ElementTree.Element, tag: str) -> ElementTree.Element | None:
    """The child of a tag, None where there is none or several."""
    found = _given(element, tag)
    return found[0] if len(found) == 1 else None


def _value(element: ElementTree.Element | None, tag: str) -> str | None:
    """The text of the only child of a tag, None where there is no such text."""
    found = None if element is None else _only(element, tag)
    return None if found is None or len(found) else (found.text or "").strip()


def _text(file: Path) -> str:
    """The text of a file in the encoding of its first bytes or its declaration, else UTF-8.

    ElementTree knows few encodings, and not "utf8", which its own `write` puts in a file where it is asked to.

    Raises:
        ArgumentError: if it cannot be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArgumentError(f"data: {file} cannot be read: {error.strerror or error}") from None
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding:
        declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", data[:300])
        encoding = declared[1].decode().lower() if declared else "utf-8"
        encoding = _MEANT.get(encoding, encoding)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except (UnicodeError, LookupError) as error:
        raise ArgumentError(
            f"data: {file} cannot be read: {error}; expected UTF-8, or XML that tells its encoding"
        ) from None
