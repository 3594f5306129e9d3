"""The next steps of a measurement in the words of detection."""

from collections.abc import Sequence
from dataclasses import fields, replace

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
    given = {f.name: getattr(task, f.name) for f in fields(task)}
    data = {
        name: value for name, value in given.items() if value != BoxTask.__dataclass_fields__[name].default
    }
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
