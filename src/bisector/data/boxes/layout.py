"""Which files of a folder are which part of a detection data set, and where their images are."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from bisector.data.boxes.annotations import LeftOut
from bisector.errors import ArgumentError

_XML, _BESIDE = "Annotations", "_annotations.coco.json"
_PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
SUBFOLDERS = {word: words[0] for words in _PARTS.values() for word in words}
"""The list of VOC that a folder stands for."""

_LEGAL = (
    "a Pascal VOC folder (Annotations, ImageSets, JPEGImages; annotations and images; or XML beside pictures), a "
    "folder with COCO or LVIS json files "
    "(instances_train*.json, lvis*train*.json), one of these files, or a Python file that makes a data set"
)


def find_voc(folder: Path) -> Path | None:
    """The folder that holds Annotations: this one, or the one VOC20xx in it or in its VOCdevkit.

    Where there is neither that nor a json file to train on, it is also a folder with XML files in its annotations,
    or beside their images: in it, or in its train, valid and test.

    Raises:
        ArgumentError: if it holds several.
    """
    if _has_xml(folder / _XML):
        return folder
    inner = [
        p for top in (folder, folder / "VOCdevkit") for p in sorted(top.glob("VOC*")) if _has_xml(p / _XML)
    ]
    if len(inner) > 1:
        years = ", ".join(path.name for path in inner)
        raise ArgumentError(f"data: {folder} holds {years}; expected one of them")
    if inner:
        return inner[0]
    return folder if voc_places(folder)[0] != _XML and not _json_files(folder)["train"] else None


def voc_places(folder: Path) -> tuple[str, str]:
    """Where below a VOC folder its annotations and its images are; "Annotations" where there are none."""
    inner = sorted(path.name for path in _entries(folder) if path.is_dir())
    beside = [folder, *(folder / name for name in inner if name in SUBFOLDERS)]
    places = [name for name in inner if name.lower() == _XML.lower() and _has_xml(folder / name)]
    if not places and any(_has_xml(place, deep=False) for place in beside):
        places = [""]
    images = [name for name in inner if name.lower() in {"jpegimages", "images"}]
    return (places or [_XML])[0], images[0] if images else ""


def find_json_parts(folder: Path) -> dict[str, Path]:
    """The json files of a COCO or LVIS folder: "train" and, where they are, "validation" and "test".

    They are `instances_{train,val}*.json` or `lvis*{train,val}*.json`, in the folder or in its `annotations`, with
    images in `train2017` and `val2017` (the end of the file's name), in `images`, in `images/train2017` or beside
    the file; or `{train,valid,test}/_annotations.coco.json` beside their images.

    Raises:
        ArgumentError: if there is none to train on, or several.
    """
    found = _json_files(folder)
    if not found["train"]:
        raise ArgumentError(f"data: nothing to train on in {folder}; expected {_LEGAL}")
    for files in found.values():
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise ArgumentError(f"data: {folder} holds {names}; expected one of these files, and its images")
    return {part: files[0] for part, files in found.items() if files}


def image_folders(
    file: Path, images: str | None, folder: Path | None = None, *, inherited: bool = False
) -> list[Path]:
    """The folders in which the images of a json file may lie: the one given, or the usual ones of its data set.

    Images that are `inherited`, given for the training part where this is another, may be beside those of training
    in files of the same names.
    """
    parts = _folder_names(file)
    if images is None:
        if folder is not None and file.name == _BESIDE:
            return [file.parent]
        top = folder or (file.parent.parent if file.parent.name == "annotations" else file.parent)
        inner, deeper = ([place / part for part in parts] for place in (top, top / "images"))
        return [*inner, top, *deeper, top / "images", file.parent]
    place = Path(images).expanduser()
    if not place.is_dir():
        raise ArgumentError(f"images: no folder {images}")
    inner = [place / part for part in parts]
    if not inherited:
        return [place, *inner]
    above = place.resolve().parent
    alike = [place.name.replace("train", word) for word in _PARTS["validation"]]
    beside = [above / name for name in (*parts, *(name for name in alike if name != place.name))]
    return [*inner, *beside, place]


def require_data(data: str) -> Path:
    """The path of a data set.

    Raises:
        ArgumentError: if there is nothing.
    """
    path = Path(data).expanduser()
    if not os.path.exists(path):  # noqa: PTH110 - of any length
        raise ArgumentError(f"data: no file or folder {data!r}; expected {_LEGAL}")
    return path


def find_images(
    names: Sequence[Sequence[str]], folders: Iterable[Path]
) -> tuple[Path | None, list[str | None]]:
    """Find the folder that holds most of the images, the first of equals, and each image's file below it.

    An image has several names, paths relative to such a folder, the likeliest first. The last part of a path counts
    too where no other image has the same. Each folder is listed once; there is no question to the disk for a file.
    """
    last = [[re.split(r"[/\\]", name)[-1] for name in some] for some in names]
    common = Counter(name for some in last for name in set(some))
    wanted = [(*some, *(n for n in ends if common[n] == 1)) for some, ends in zip(names, last, strict=True)]

    @cache
    def listing(place: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(place))  # noqa: PTH208
        except (OSError, ValueError):  # no folder, or no name of one
            return frozenset()

    def there(folder: str, name: str) -> bool:
        inner, own = os.path.split(name)
        return own in listing(os.path.join(folder, inner))  # noqa: PTH118

    best: tuple[Path | None, list[str | None]] = None, [None] * len(names)
    most = 0
    for folder in folders:
        found = [next((name for name in some if there(str(folder), name)), None) for some in wanted]
        count = sum(file is not None for file in found)
        if count > most:
            best, most = (folder, found), count
        if most == len(names):
            break
    return best


def require_images(
    lost: Sequence[str], whole: int, folder: Path, faults: LeftOut, *, skip_missing: bool
) -> None:
    """Note the images without a file.

    Raises:
        ArgumentError: if they may not be skipped, or are all.
    """
    if not lost:
        return
    if not skip_missing or len(lost) == whole:
        names = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        got = f"{len(lost):,} of {whole:,} files are missing in {folder}: {names}"
        raise ArgumentError(f"images: {got}; expected the folder that they are in")
    faults.add("without a file, left out", lost[0], count=len(lost), what="images")


def files_below(folder: Path, faults: LeftOut) -> list[str]:
    """The paths of all files below a folder, links followed but never in a circle.

    Names that are no UTF-8, which no list and no page can hold, are among the faults.

    Raises:
        ArgumentError: if a folder cannot be read.
    """
    found: list[str] = []
    parents = Path(os.path.realpath(folder)).parents  # a link up to one of them leads into all that is beside
    open_: list[tuple[str, frozenset[str]]] = [("", frozenset(map(str, parents)))]
    while open_:
        inner, above = open_.pop()
        place = os.path.join(folder, inner)  # noqa: PTH118 - names alone, a hundred thousand of them
        real = os.path.realpath(place)
        if real in above:
            continue
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise ArgumentError(f"data: {place} cannot be read: {error.strerror or error}") from None
        for entry in entries:
            path = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.encode(errors="replace").decode() != entry.name:
                faults.add("whose name is not UTF-8, passed over", repr(path), what="files")
            elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():  # noqa: PTH112
                open_.append((path, above | {real}))
            else:
                found.append(path)
    return sorted(found)


def _folder_names(file: Path) -> list[str]:
    """How the folder of a file's images may be called: of instances_val2017.json val2017, then valid2017, ..."""
    names = [file.stem.rpartition("_")[2]]
    for token in re.split(r"[^a-zA-Z0-9]+", file.stem):
        for words in _PARTS.values():
            if found := re.fullmatch(rf"({'|'.join(words)})(\d*)", token):
                names += [token, *(word + found[2] for word in words)]
    return list(dict.fromkeys(names))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ArgumentError(f"data: {folder} cannot be read: {error.strerror or error}") from None


def _has_xml(folder: Path, *, deep: bool = True) -> bool:
    if not folder.is_dir():
        return False
    here = [path.name for path in _entries(folder) if path.is_file()]
    names = files_below(folder, LeftOut("")) if deep else here
    return any(name.lower().endswith(".xml") for name in names)


def _json_files(folder: Path) -> dict[str, list[Path]]:
    """The json files of each part: those beside their images, else those with the usual names, else with any."""
    found = {
        part: [file for word in words if (file := folder / word / _BESIDE).is_file()][:1]
        for part, words in _PARTS.items()
    }
    for starts in (("instances_", "lvis*"), ("*",)):
        if not found["train"]:
            found = {
                part: [
                    file
                    for start in starts
                    for place in (folder, folder / "annotations")
                    for file in sorted(place.glob(f"{start}{_PARTS[part][0]}*.json"))
                ]
                for part in ("train", "validation")
            }
    return found
