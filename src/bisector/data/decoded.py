"""Decoded images kept in a file: the trainings of a comparison decode them once, and share their memory."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bisector.data.examples import InMemory
from bisector.data.image_examples import ReadImages, Reading, read_images
from bisector.data.images import Encoded, PixelRange
from bisector.files import read_or_none, reading, whole_file
from bisector.records import read_record, write_record


@dataclass(frozen=True)
class _Kept:
    """What is known of the images beside their pixels."""

    readable: list[int]
    left_out: list[str]
    notes: list[str]
    pixel_range: PixelRange | None


def decoded_once(folder: Path, images: Sequence[Encoded], names: Sequence[str], how: Reading) -> ReadImages:
    """Return what `read_images` returns, from the folder if it was left there; else leave it there.

    Images are the same if names, sizes and times of their files, or their contents, are. Pixels are mapped into
    memory, which all processes that do so share. Images that are too many for the memory,
    and are decoded batch by batch, are not kept.

    Raises:
        OSError: a file cannot be written.
    """
    place = folder / _key(images, how)
    kept = read_or_none(place.with_suffix(".json"), lambda path: _mapped(path, names), "decoded again")
    if kept is not None:
        return kept
    found = read_images(images, names, how)
    if not isinstance(found.examples, InMemory):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(place.with_suffix(".npy")) as file:
        np.save(file, found.examples.values.numpy())
    about = _Kept(found.readable.tolist(), found.left_out, found.notes, found.pixel_range)
    write_record(about, place.with_suffix(".json"))  # last: whoever finds it finds the pixels
    return _mapped(place.with_suffix(".json"), names)


def _mapped(path: Path, names: Sequence[str]) -> ReadImages:
    complaint = f"decoded: got {path}; expected what was kept of decoded images"
    kept = read_record(_Kept, path, complaint)
    with reading(complaint):
        values = torch.from_numpy(np.load(path.with_suffix(".npy"), mmap_mode="c"))
        if len(values) != len(kept.readable):
            raise ValueError(f"{len(values)} images, not {len(kept.readable)}")
    examples = InMemory(values, [names[index] for index in kept.readable])
    return ReadImages(examples, torch.tensor(kept.readable), kept.left_out, kept.notes, kept.pixel_range)


def _key(images: Sequence[Encoded], how: Reading) -> str:
    pixels_depend_on = (how.image_size, how.memory, how.largest, how.pixel_range)
    digest = hashlib.sha256(repr(pixels_depend_on).encode())
    for image in images:
        if isinstance(image, bytes):
            digest.update(hashlib.sha256(image).digest())
        else:
            state = Path(image).stat()
            digest.update(os.fsencode(f"\n{image} {state.st_size} {state.st_mtime_ns}"))
    return digest.hexdigest()[:16]
