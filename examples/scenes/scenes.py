"""Make a scene set: what ``--data examples/scenes/scenes.py:option=value`` loads."""

from collections.abc import Mapping

from bisector.data.boxes import BoxSplits, frequency_groups
from bisector.data.keyed import keyed_permutation
from bisector.errors import require, require_integer
from scenes.backgrounds import photographs
from scenes.emoji import emoji_files
from scenes.layout import deal, draws_for, picture_sizes, plan, tail_counts
from scenes.objects import folder_files, read_classes
from scenes.options import read_options
from scenes.pictures import SceneSet

PARTS = ("train", "validation", "test")
_RANKS = len(PARTS)  # the key of the draw that makes a class common or rare


def load_boxes(seed: int, options: Mapping[str, str]) -> BoxSplits:
    """Return a detection data set that is composed: real objects, cut out, pasted on real photographs.

    No picture of it was ever photographed: it is for trying a whole path where no data set can be had, and for
    comparing what is trained on it, not for a number that stands for real photographs. What is in a picture, and
    every pixel, is a function of the options, the seed and the files; nothing is stored.

    Objects are the images in a folder's class folders, or emoji in four vendors' designs (`objects=emoji`). An
    object is cut out (`cutouts.read_cutout`), brought to a length drawn log-uniformly, turned, made brighter or
    darker and pasted wholly inside the picture; later objects cover earlier ones, 30% of which stay visible. A box
    holds the visible pixels, those of which the object covers half or more; `areas` are their number. A quarter of
    a class's images (at least one of two) are for the test part alone, but for `held_out=no`.

    In training, class counts fall exponentially from the commonest class to the rarest (`imbalance`); the seed
    draws which is which. Validation and test hold all classes alike, so that a rare class's score is no coin toss.
    `frequency` is LVIS's: rare in at most 10 training pictures, common in at most 100, else frequent.

    Args:
        seed: decides everything drawn.
        options: fields of `options.SceneOptions`, as text.

    Raises:
        ArgumentError: an option is not legal, or the objects or backgrounds cannot be had.
        MissingExtraError: without Pillow, or without scikit-learn for its two photographs.
    """
    chosen = read_options(options)
    spec = ":".join(["scenes", *map("=".join, options.items())])
    require(require_integer("seed", seed, least=0) < 2**32, "seed", seed, "an integer below 2^32")
    is_emoji = chosen.objects == "emoji"
    files = emoji_files(chosen.classes) if is_emoji else folder_files(chosen.objects, chosen.classes)
    backgrounds, damaged = photographs(chosen.backgrounds, chosen.size)
    longest = max(64, round(chosen.size * chosen.largest))
    classes, left_out = read_classes(files, chosen.designs, longest, seed)
    names = [each.name for each in classes]
    cutouts = [each.cutouts for each in classes]
    apart = [each.division(seed, number) for number, each in enumerate(classes)]
    order = keyed_permutation(seed, _RANKS, len(classes))

    def part(number: int, pictures: int) -> SceneSet:
        sizes = picture_sizes(pictures, chosen.fewest, chosen.most, seed, number)
        imbalance, least = (chosen.imbalance, 1) if number == 0 else (1.0, 0)
        counts = tail_counts(int(sizes.sum()), order, imbalance, least)
        draws = draws_for(chosen, seed, number, pictures).double().numpy()
        held = number == PARTS.index("test") and chosen.held_out
        every = [tuple(range(len(each))) for each in cutouts]
        usable = [of_test if held else rest for rest, of_test in apart] if chosen.held_out else every
        plans = [
            plan((labels + 1).tolist(), row, cutouts, usable, chosen)
            for labels, row in zip(deal(counts, sizes, seed, number), draws, strict=True)
        ]
        return SceneSet(
            plans,
            names,
            name=f"{spec} ({PARTS[number]})",
            part=PARTS[number],
            first_id=1 + sum((chosen.pictures, chosen.validation, chosen.test)[:number]),
            size=chosen.size,
            cutouts=cutouts,
            photographs=backgrounds,
            left_out=(*left_out, *damaged) if number == 0 else (),
        )

    train, validation, test = map(part, range(3), (chosen.pictures, chosen.validation, chosen.test))
    frequency = frequency_groups(train.image_counts)
    for each in (train, validation, test):
        each.frequency = frequency
    return BoxSplits(train, validation, test)
