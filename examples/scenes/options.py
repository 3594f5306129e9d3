"""What a scene set is made of: the words of ``scenes.py:option=value:...``."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bisector.errors import ArgumentError, require, require_choice, require_integer, require_number


@dataclass(frozen=True)
class SceneOptions:
    """The options of a scene set; lengths are shares of the picture's edge.

    Raises:
        ArgumentError: a value is not legal.
    """

    objects: str = "emoji"  # a folder with a folder of images for each class, or "emoji"
    backgrounds: str = ""  # a folder of photographs; scikit-learn's two if empty
    classes: int | None = None  # how many; all of a folder's and 64 emoji if None
    designs: int = 20  # at most so many images of a class are used
    pictures: int = 2000  # of the training part
    validation: int = 200
    test: int = 400
    size: int = 160  # edge of a picture, pixels
    fewest: int = 2  # objects in a picture
    most: int = 6
    imbalance: float = 100.0  # training objects of the commonest class over those of the rarest
    smallest: float = 0.2  # longest side of an object before it is turned
    largest: float = 0.5
    rotation: float = 15.0  # degrees, to either side
    flip: bool = False  # half of the objects mirrored
    brightness: float = 0.2  # at most so much brighter or darker
    visible: float = 0.3  # of every object, at least so much of its pixels is not covered by later ones
    held_out: bool = True  # a quarter of a class's images is for the test part alone

    def __post_init__(self) -> None:
        least = {"designs": 1, "pictures": 1, "validation": 1, "test": 1, "size": 32, "fewest": 0}
        for name, bound in least.items():
            require_integer(name, getattr(self, name), least=bound)
        if self.classes is not None:
            require_integer("classes", self.classes, least=2)
        require_integer("most", self.most, least=max(self.fewest, 1))
        require(self.most <= 100, "most", self.most, "an integer of at most 100")
        require(self.size <= 2048, "size", self.size, "an integer of at most 2048")
        require_number("imbalance", self.imbalance, least=1)
        # Turned by 45 degrees, 0.7 of the edge is the whole edge.
        require_number("largest", self.largest, above=0, most=0.7)
        require_number("smallest", self.smallest, least=4 / self.size, most=self.largest)
        require_number("rotation", self.rotation, least=0, most=180)
        require_number("brightness", self.brightness, least=0, most=0.9)
        require_number("visible", self.visible, above=0, most=1)


def read_options(given: Mapping[str, str]) -> SceneOptions:
    """Return the options whose values are given as text.

    Raises:
        ArgumentError: an option or a value is not legal; the nearest legal name is given.

    >>> read_options({"objects": "birds", "size": "128", "flip": "yes"}).size
    128
    >>> read_options({"sizes": "128"})
    Traceback (most recent call last):
    bisector.errors.ArgumentError: option of scenes: got 'sizes'; did you mean 'size'? expected one of objects, ...
    """
    kinds = {field.name: field.type for field in fields(SceneOptions)}
    for option in given:
        require_choice("option of scenes", option, kinds)
    values: dict[str, Any] = {option: _value(option, text, kinds[option]) for option, text in given.items()}
    return SceneOptions(**values)


def _value(option: str, value: str, kind: Any) -> Any:
    if kind is bool:
        return require_choice(option, value.lower(), ("yes", "no")) == "yes"
    if kind is str:
        return value
    number = float if kind is float else int
    with contextlib.suppress(ValueError):
        return number(value)
    raise ArgumentError(f"{option}: got {value!r}; expected {'a number' if kind is float else 'an integer'}")
