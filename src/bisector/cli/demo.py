"""Compare eleven heads on handwritten digits made long-tailed: the main job in a few minutes.

It is `bisector compare` with the heads chosen.
"""

import argparse
from pathlib import Path
from typing import Any

from bisector.cli import compare

HEADS = (
    "linear-softmax",
    "normalized-softmax",
    "am-softmax",
    "enhanced-am-softmax",
    "c2am",
    "igam:preset=paper",
    "igam",
    "count-guided",
    "logit-adjusted",
    "normalized-softmax:tau=1",
    "igam:tau=1",
)
# On a circle there is no room for ten classes at the usual margins.
PLANES = (
    "linear-softmax",
    "normalized-softmax",
    "am-softmax:margin=0.1",
    "enhanced-am-softmax:margin=0.1",
    "igam",
    "logit-adjusted",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector demo``."""
    compare.add_shared_arguments(parser)
    parser.set_defaults(
        heads=",".join(HEADS), planes=",".join(PLANES), baseline="", imbalance=20, out=Path("runs/demo")
    )


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Compare."""
    return compare.run(arguments, command)
