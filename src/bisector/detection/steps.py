"""The next steps of a measurement in the words of detection."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from bisector.detection.recipe import BoxTask
from bisector.measurement.command import command_line
from bisector.measurement.next_step import Step


def detection_steps(steps: Sequence[Step], task: BoxTask, model: str) -> list[Step]:
    """Return the steps with commands that train, score and measure detectors in the place of classifiers.

    Args:
        steps: of `bisector.measurement.next_step.next_steps`.
        task: what was measured.
        model: the run that was measured.
    """
    data = data_options(task)
    train = command_line("bisector detect train", options=data)
    measure = command_line("bisector detect measure", model, options=data)
    evaluate = command_line("bisector detect evaluate", model, options={**data, "adjust": "prior"})
    commands = {
        "chance": f"{train} --epochs 24",
        "leakage": measure,
        "labels": measure,
        "small": f"{train} --repeat-threshold 0.001",
        "prior": evaluate,
        "amount": f"{train} --head igam",
        "compare": f"{train} --head normalized-softmax",
    }
    return [replace(step, command=commands.get(step.key, step.command)) for step in steps]


def data_options(task: BoxTask) -> dict[str, Any]:
    """Return the options of a command that name these data, by name with underscores.

    >>> data_options(BoxTask("boxes.json", images="photos", imbalance=10.0))
    {'data': 'boxes.json', 'images': 'photos', 'imbalance': 10.0}
    """
    given = {f.name: (getattr(task, f.name), f.default) for f in fields(task)}
    return {name: value for name, (value, default) in given.items() if value != default}
