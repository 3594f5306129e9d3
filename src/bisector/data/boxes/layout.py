"""Which files of a folder are which part of a detection data set."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bisector.data.boxes.files import files_below
from bisector.data.boxes.left_out import LeftOut
from bisector.errors import ArgumentError

_XML, _BESIDE = "Annotations", "_annotations.coco.json"
_PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
SUBFOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The list of VOC that a folder stands for."""

_LEGAL = (
    "a Pascal VOC folder (Annotations, ImageSets, JPEGImages; annotations and images; or XML beside pictures), a "
    "folder with COCO or LVIS json files "
    "(instances_train*.json, lvis*train*.json), one of these files, or a Python file that makes a data set"
)


@dataclass(frozen=True)
class JsonPart:
    """A COCO or LVIS file and the folders in which its images may lie."""

    file: Path
    images: tuple[Path, ...]


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


def find_json_parts(folder: Path) -> dict[str, JsonPart]:
    """The json files of a COCO or LVIS folder: "train" and, where they are, "validation" and "test".

    They are `instances_{train,val}*.json` or `lvis*{train,val}*.json`, in the folder or in its `annotations`, with
    images in `train2017` and `val2017` (the end of the file's name), in `images`, in `images/train2017` or beside
    the file; or `{train,valid,test}/_annotations.coco.json` beside their images.

    Raises:
        ArgumentError: if there is none to train on, or several.
    """
    found = _json_files(folder)
    if found["train"] and found["train"][0].name == _BESIDE:
        return {part: JsonPart(files[0], (files[0].parent,)) for part, files in found.items() if files}
    if found["train"]:
        return {part: _one(folder, files) for part, files in found.items() if files}
    raise ArgumentError(f"data: nothing to train on in {folder}; expected {_LEGAL}")


def json_part(
    file: Path, images: str | None, folder: Path | None = None, *, inherited: bool = False
) -> JsonPart:
    """A json file and the folders in which its images may lie: the one given, or the usual ones.

    Args:
        file: the json file.
        images: the folder of its images, where it was given.
        folder: of the data set.
        inherited: whether `images` was given for the training part and this is another; its images may be beside
            them, in files of the same names.
    """
    parts = _folder_names(file)
    if images is not None:
        place = Path(images).expanduser()
        if not place.is_dir():
            raise ArgumentError(f"images: no folder {images}")
        inner, beside = [place / part for part in parts], [place.resolve().parent / part for part in parts]
        if inherited:
            alike = [place.name.replace("train", word) for word in _PARTS["validation"]]
            beside += [place.resolve().parent / name for name in alike if name != place.name]
        return JsonPart(file, (*inner, *beside, place) if inherited else (place, *inner))
    top = folder or (file.parent.parent if file.parent.name == "annotations" else file.parent)
    named = [place / part for place in (top, top / "images") for part in parts]
    return JsonPart(file, (*named[: len(parts)], top, *named[len(parts) :], top / "images", file.parent))


def require_data(data: str) -> Path:
    """The path of a data set.

    Raises:
        ArgumentError: if there is nothing.
    """
    path = Path(data).expanduser()
    if not os.path.exists(path):  # noqa: PTH110 - of any length
        raise ArgumentError(f"data: no file or folder {data!r}; expected {_LEGAL}")
    return path


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
    names = (
        files_below(folder, LeftOut(""))
        if deep
        else [path.name for path in _entries(folder) if path.is_file()]
    )
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
                part: [file for start in starts for file in _named(folder, start, _PARTS[part][0])]
                for part in ("train", "validation")
            }
    return found


def _named(folder: Path, start: str, part: str) -> list[Path]:
    places = (folder, folder / "annotations")
    return [file for place in places for file in sorted(place.glob(f"{start}{part}*.json"))]


def _one(folder: Path, files: list[Path]) -> JsonPart:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ArgumentError(f"data: {folder} holds {names}; expected one of these files, and its images")
    return json_part(files[0], None, folder)
