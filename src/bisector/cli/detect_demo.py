"""Compare four heads of a small detector on composed scenes with a long tail, from nothing to a page of pictures.

It is `bisector detect compare` with data, model and recipe chosen: for two cores, and no data set but emoji, which
npm fetches once.
"""

import argparse
from pathlib import Path

from bisector.cli import detect_compare
from bisector.cli.detect_options import add_data

HEADS = "linear-softmax,normalized-softmax,c2am,igam"
# Of an emoji there are four designs: with one of them held out, what is scored is how alike vendors draw, and rare
# classes score nothing at all. Here the test part shows the same designs, in other pictures.
DATA = "scenes:size=128:held_out=no"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect demo``."""
    add_data(parser, required=False, default=DATA)
    parser.add_argument("--heads", default=HEADS, help="names, separated by commas (default: %(default)s)")
    detect_compare.add_shared_arguments(parser)
    parser.set_defaults(
        model="small-fpn",
        image_size=128,
        epochs=8,
        batch_size=16,
        learning_rate=0.04,
        flip=False,
        validate_every=4,
        out=Path("runs/detect-demo"),
    )


def run(arguments: argparse.Namespace, command: str) -> None:
    """Compare."""
    detect_compare.run(arguments, command)
