"""Which files of a folder are which part of a detection data set."""

from dataclasses import dataclass
from pathlib import Path

from bisector.errors import ArgumentError

_PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_LEGAL = (
    "a Pascal VOC folder (Annotations, ImageSets, JPEGImages), a folder with COCO or LVIS json files "
    "(instances_train*.json, lvis*train*.json), one of these files, or scenes"
)


@dataclass(frozen=True)
class JsonPart:
    """A COCO or LVIS file and the folders in which its images may lie."""

    file: Path
    images: tuple[Path, ...]


def find_voc(folder: Path) -> Path | None:
    """The folder that holds Annotations: this one, or the one VOC20xx in it or in its VOCdevkit.

    Raises:
        ArgumentError: if it holds several.
    """
    if _is_voc(folder):
        return folder
    inner = [p for top in (folder, folder / "VOCdevkit") for p in sorted(top.glob("VOC*")) if _is_voc(p)]
    if len(inner) > 1:
        years = ", ".join(path.name for path in inner)
        raise ArgumentError(f"data: {folder} holds {years}; expected one of them")
    return inner[0] if inner else None


def find_json_parts(folder: Path) -> dict[str, JsonPart]:
    """The json files of a COCO or LVIS folder: "train" and, where they are, "validation" and "test".

    They are `instances_{train,val}*.json` or `lvis*{train,val}*.json`, in the folder or in its `annotations`, with
    images in `train2017` and `val2017` (the end of the file's name), in `images`, in `images/train2017` or beside
    the file; or `{train,valid,test}/_annotations.coco.json` beside their images.

    Raises:
        ArgumentError: if there is none to train on, or several.
    """
    beside = {part: _beside(folder, words) for part, words in _PARTS.items()}
    if beside["train"] is not None:
        return {part: JsonPart(file, (file.parent,)) for part, file in beside.items() if file is not None}
    for start in ("instances_", "lvis*", "*"):
        found = {part: _named(folder, start, _PARTS[part][0]) for part in ("train", "validation")}
        if found["train"]:
            return {part: _one(folder, files) for part, files in found.items() if files}
    raise ArgumentError(f"data: nothing to train on in {folder}; expected {_LEGAL}")


def json_part(file: Path, images: str | None, folder: Path | None = None) -> JsonPart:
    """A json file and the folders in which its images may lie: the one given, or the usual ones."""
    part = file.stem.rpartition("_")[2]
    if images is not None:
        place = Path(images).expanduser()
        if not place.is_dir():
            raise ArgumentError(f"images: no folder {images}")
        return JsonPart(file, (place, place / part))
    top = folder or (file.parent.parent if file.parent.name == "annotations" else file.parent)
    inner = top / "images"
    return JsonPart(file, (top / part, top, inner / part, inner, file.parent))


def require_data(data: str) -> Path:
    """The path of a data set.

    Raises:
        ArgumentError: if there is nothing.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise ArgumentError(f"data: no file or folder {data!r}; expected {_LEGAL}")
    return path


def _is_voc(folder: Path) -> bool:
    annotations = folder / "Annotations"
    return annotations.is_dir() and any(path.suffix == ".xml" for path in annotations.iterdir())


def _beside(folder: Path, words: tuple[str, ...]) -> Path | None:
    files = (folder / word / "_annotations.coco.json" for word in words)
    return next((file for file in files if file.is_file()), None)


def _named(folder: Path, start: str, part: str) -> list[Path]:
    places = (folder, folder / "annotations")
    return [file for place in places for file in sorted(place.glob(f"{start}{part}*.json"))]


def _one(folder: Path, files: list[Path]) -> JsonPart:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ArgumentError(f"data: {folder} holds {names}; expected one of these files, and its images")
    return json_part(files[0], None, folder)
