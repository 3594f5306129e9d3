"""A detector, or several with different heads, as one self-contained HTML page with pictures to look at."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bisector.errors import require, require_integer
from bisector.files import write_whole
from bisector.report.detection_classes import class_section, training_boxes
from bisector.report.detection_columns import findings, results, score_rows
from bisector.report.detection_confusions import hardest_section
from bisector.report.detection_drawings import drawing_section
from bisector.report.detection_matches import best_level, match_all
from bisector.report.detection_plots import count_figures, count_section
from bisector.report.detection_run import DetectionRun, by_head, first_runs, same_data
from bisector.report.document import document
from bisector.report.measurement_parts import escape
from bisector.report.names import shorten
from bisector.report.numbers import count

if TYPE_CHECKING:
    from bisector.data.boxes.box_set import BoxSet

_LONGEST = 200  # letters of a class's name

_COMPOSED = (
    "The pictures are composed: objects were pasted on photographs. Scores on them say how heads compare, not how "
    "good a detector is on photographs as they are taken."
)

__all__ = ["DetectionRun", "render_detection_page", "write_detection_page"]


def write_detection_page(
    path: str | Path,
    runs: Sequence[DetectionRun],
    truth: "BoxSet",
    *,
    title: str,
    command: str = "",
    notes: Sequence[str] = (),
    pictures: int = 12,
) -> Path:
    """Write scores, classes, pictures and confusions as one HTML file that works offline and from `file://`.

    Args:
        path: of the file.
        runs: the trainings; those of one name are seeds of one head. Pictures and confusions are of its first.
        truth: the pictures that the runs were scored on. `truth.composed`, where it is true, is said on the page.
        title: plain text, as all that follows.
        command: what was typed, where there is something to repeat.
        notes: for people, a line each.
        pictures: how many are drawn, at most.

    Returns:
        The path.

    Raises:
        ArgumentError: there is no run, or one was not scored on the classes of `truth`.
        MissingExtraError: plotly, torchvision or Pillow is not installed.
        OSError: the file cannot be written.
    """
    path = Path(path)
    page = render_detection_page(runs, truth, title=title, command=command, notes=notes, pictures=pictures)
    write_whole(path, page)
    return path


def render_detection_page(
    runs: Sequence[DetectionRun],
    truth: "BoxSet",
    *,
    title: str,
    command: str = "",
    notes: Sequence[str] = (),
    pictures: int = 12,
) -> str:
    """The page that `write_detection_page` writes."""
    require(bool(runs), "runs", "none", "at least one run")
    require_integer("pictures", pictures, least=0)
    for run in runs:
        fits = tuple(run.scores.class_names) == tuple(truth.class_names)
        require(
            fits,
            "runs",
            f"{run.name} with other classes",
            f"the {len(truth.class_names)} classes of {truth.name}",
        )
    truth, runs = _with_short_names(truth, runs)
    matches = {run.name: match_all(truth, run.detections) for run in first_runs(runs)}
    level = best_level(list(matches.values()))
    counts = training_boxes(same_data(runs))
    rows, figures = score_rows(runs), count_figures(runs)
    content = [
        _header(runs, truth, title, command, notes),
        findings(rows),
        results(rows),
        drawing_section(truth, matches, counts, level, pictures),
        count_section(runs, figures) if figures else "",
        hardest_section(truth, runs, matches, level),
        class_section(runs),
        _left_out(truth),
    ]
    return document(title, content, figures)


def _with_short_names(truth: "BoxSet", runs: Sequence[DetectionRun]) -> tuple["BoxSet", list[DetectionRun]]:
    """The same with names of classes that a page can show: each is on it many times."""
    names = tuple(shorten(name, _LONGEST) if len(name) > _LONGEST else name for name in truth.class_names)
    other = copy(truth)
    other.class_names = names
    return other, [replace(run, scores=replace(run.scores, class_names=names)) for run in runs]


def _header(
    runs: Sequence[DetectionRun], truth: "BoxSet", title: str, command: str, notes: Sequence[str]
) -> str:
    seeds = max(map(len, by_head(runs).values()))
    facts = [
        escape(truth.name),
        count(len(truth.pictures), "test picture"),
        f"{int(truth.counts.sum()):,} boxes",
        count(len(truth.class_names), "class"),
        *([count(seeds, "seed")] if seeds > 1 else []),
    ]
    lines = [*notes, *dict.fromkeys(note for run in runs for note in run.scores.notes)]
    if getattr(truth, "composed", False):
        lines.insert(0, _COMPOSED)
    told = "".join(f'<p class="note">{escape(line)}</p>' for line in lines)
    typed = f"<pre><code>{escape(command)}</code></pre>" if command else ""
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{" · ".join(facts)}</p>\n{typed}{told}'


def _left_out(truth: "BoxSet") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in truth.left_out)
    summary = f"Left out of the data, or to know of them: {len(truth.left_out)}"
    return f"<details><summary>{summary}</summary><ul>{items}</ul></details>" if items else ""
