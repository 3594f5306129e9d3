"""The benchmark of a detector: what IGAM costs a training step, and the memory of all that it adds."""

import argparse
import re
from typing import Any

from bisector.cli.measure import size_in_bytes
from bisector.errors import ArgumentError, require, require_integer


def add_arguments(benchmarks: Any) -> argparse.ArgumentParser:
    """Add it to the benchmarks of ``bisector bench``."""
    text = "what IGAM costs a training step of a torchvision R-CNN, and its memory at LVIS's size"
    parser: argparse.ArgumentParser = benchmarks.add_parser("detector", help=text, description=text)
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn", help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=91, help="with the background (default: %(default)s)")
    parser.add_argument(
        "--size", default="800x1066", help="of the images, HEIGHTxWIDTH (default: %(default)s)"
    )
    parser.add_argument("--images", type=int, default=2, help="of a step (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of steps (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--machinery",
        default="1204x1024",
        metavar="CxD",
        help="classes with the background, and dimensions, whose memory is measured; 0 for none "
        "(default: %(default)s)",
    )
    parser.add_argument("--rows", type=int, help="of its epoch (default: the boxes of LVIS's training part)")
    parser.add_argument("--memory-budget", metavar="SIZE", help="of its meter, as 2GiB (default: no limit)")
    return parser


def measure(arguments: argparse.Namespace, progress: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the tables and the record."""
    height, width = _pair("--size", arguments.size)
    machinery = None if arguments.machinery == "0" else _pair("--machinery", arguments.machinery)
    for name, least in (("classes", 3), ("images", 1), ("repeats", 1)):
        require_integer(f"--{name}", getattr(arguments, name), least=least)
    if machinery is not None:
        require(min(machinery) > 2, "--machinery", arguments.machinery, "3 classes and 3 dimensions, or more")
        if arguments.rows is not None:
            require_integer("--rows", arguments.rows, least=machinery[0])
    budget = None if arguments.memory_budget is None else size_in_bytes(arguments.memory_budget)

    from bisector.benchmarks.detector import measure_detector, measure_machinery
    from bisector.benchmarks.detector_report import detector_record, detector_table, machinery_table
    from bisector.benchmarks.long_tail import LVIS_INSTANCES

    run = measure_detector(
        arguments.model,
        classes=arguments.classes,
        size=(height, width),
        images=arguments.images,
        repeats=arguments.repeats,
        device=arguments.device,
        progress=progress,
    )
    tables, held = [detector_table(run)], None
    if machinery is not None:
        rows = LVIS_INSTANCES if arguments.rows is None else arguments.rows
        held = measure_machinery(*machinery, rows=rows, budget=budget, progress=progress)
        tables.append(machinery_table(held))
    return tables, detector_record(run, held)


def _pair(name: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or not int(found[1]) or not int(found[2]):
        raise ArgumentError(f"{name}: got {text!r}; expected two numbers such as 800x1066")
    return int(found[1]), int(found[2])
