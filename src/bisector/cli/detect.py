"""Train, score and measure detectors: torchvision's R-CNNs with any head, on COCO, LVIS or Pascal VOC files."""

import argparse
from typing import Any

from bisector.cli import (
    detect_adjust,
    detect_compare,
    detect_evaluate,
    detect_measure,
    detect_train,
)

ACTIONS: dict[str, Any] = {
    "train": detect_train,
    "compare": detect_compare,
    "evaluate": detect_evaluate,
    "measure": detect_measure,
    "adjust": detect_adjust,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``bisector detect``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action in ACTIONS.items():
        summary = (action.__doc__ or "").partition("\n")[0]
        action.add_arguments(actions.add_parser(name, help=summary, description=summary))


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Do what was asked for."""
    return ACTIONS[arguments.action].run(arguments, command)
