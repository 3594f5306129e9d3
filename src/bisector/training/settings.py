"""What a folder holds: the settings of the training that was begun there."""

import json
from pathlib import Path
from typing import Any

from bisector.errors import require
from bisector.files import read_json, reading

SETTINGS = "settings.json"
WHEN_ABSENT = {"class_weights": "none"}  # of recipes stored before they could say it


def check_settings(folder: Path | None, description: dict[str, Any]) -> bool:
    """Say whether the folder holds this very training, finished or not; it may hold a shorter one too.

    Raises:
        ArgumentError: the folder holds a training with other settings.
    """
    settings = None if folder is None else folder / SETTINGS
    if settings is None or not settings.is_file():
        return False
    mine = json.loads(json.dumps(description))
    expected = "an empty folder, or the same settings"
    strange = f"out: got {folder}, which holds a {SETTINGS} that bisector did not write; expected {expected}"
    with reading(strange):
        theirs = read_json(settings)
        if theirs["fingerprint"] == mine["fingerprint"]:  # the same data, wherever they lie now
            theirs["task"]["data"] = mine["task"]["data"]
        absent = {name: value for name, value in WHEN_ABSENT.items() if name in mine["recipe"]}
        theirs["recipe"] = {**absent, **theirs["recipe"]}
        other = _difference(theirs, mine)
    require(not other, "out", f"{folder}, which holds {other}", expected)
    return bool(theirs == mine)


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """Say the first setting that differs; a training may be made longer."""
    for group in ("task", "recipe"):
        for name, value in theirs[group].items():
            new = mine[group].get(name)
            if new != value and not (name == "epochs" and new > value):
                return f"a training with {name} {value!r}, not {new!r}"
    if theirs["fingerprint"] != mine["fingerprint"]:
        return "a training on other data: the files have changed since"
    for name in ("head", "seed", "precision", "devices", "trainer"):
        if theirs[name] != mine[name]:
            return f"a training with {name} {theirs[name]!r}, not {mine[name]!r}"
    return ""


def noted_options(trainer: dict[str, Any]) -> dict[str, str]:
    """Return the options of the Trainer on which a result may depend, as text."""
    silent = {"callbacks", "logger", "profiler", "log_every_n_steps"}
    silent |= {"enable_progress_bar", "enable_model_summary"}
    return {name: str(value) for name, value in trainer.items() if name not in silent}
