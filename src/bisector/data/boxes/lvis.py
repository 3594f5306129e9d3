"""What LVIS's json files have beside COCO's (Gupta et al. 2019)."""

from collections.abc import Mapping
from typing import Any

from bisector.data.boxes.values import integer_id
from bisector.errors import ArgumentError

_FIELD = "neg_category_ids"


def is_lvis(images: list[dict[str, Any]]) -> bool:
    """Whether the images name the classes verified to be absent, as the rules of LVIS's scores need.

    >>> is_lvis([{"id": 1, "neg_category_ids": []}]), is_lvis([{"id": 1}])
    (True, False)
    """
    return any(_FIELD in image for image in images)


def url_path(image: dict[str, Any]) -> str | None:
    """Where an image lies below COCO's folder: LVIS v1 names it only by its address.

    >>> url_path({"coco_url": "http://x.org/val2017/000000266409.jpg"})
    'val2017/000000266409.jpg'
    """
    url = image.get("coco_url")
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) and url.count("/") >= 2 else None


def labels_named(file: str, image: dict[str, Any], field: str, labels: Mapping[int, int]) -> tuple[int, ...]:
    """The labels of the categories that an image names.

    Raises:
        ArgumentError: if one is unknown, or there is no list of them.
    """
    named = image.get(field)
    if named is None:
        return ()
    if not isinstance(named, list):
        raise ArgumentError(
            f"{file}: image {image['id']} has {field} {named!r}; expected a list of category ids"
        )
    ids = [integer_id(category) for category in named]
    for category, own in zip(named, ids, strict=True):
        if own not in labels:
            raise ArgumentError(
                f"{file}: image {image['id']} names category {category!r} in {field}: unknown"
            )
    return tuple(labels[own] for own in ids if own is not None)
