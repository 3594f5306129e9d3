"""pycocotools, the oracle of everything that is read and scored as COCO's: run without a word on the terminal."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest


def quietly(call: Any, *arguments: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


def pycocotools_index(truth: Any) -> Any:
    """Its index of a file, or of the content of one."""
    coco = pytest.importorskip("pycocotools.coco").COCO
    if not isinstance(truth, dict):
        return quietly(coco, str(truth))
    index = quietly(coco)
    index.dataset = truth
    quietly(index.createIndex)
    return index


def pycocotools_evaluation(truth: Any, results: Any) -> Any:
    """Its evaluator after its run, of results in a file or as records."""
    evaluator = pytest.importorskip("pycocotools.cocoeval").COCOeval
    index = pycocotools_index(truth)
    results = results if isinstance(results, list) else str(results)
    found = evaluator(index, quietly(index.loadRes, results), "bbox")
    for step in (found.evaluate, found.accumulate, found.summarize):
        quietly(step)
    return found


def class_table(precision: Any, category_ids: Any, wanted: Any) -> tuple[Any, Any]:
    """(C,) AP and AP50 of the wanted classes from (10, 101, K) precisions, NaN where there is nothing to find."""
    known = np.where(precision > -1, precision, np.nan).mean(axis=1)  # (10, K)
    columns = [list(category_ids).index(category) for category in wanted]
    return known.mean(axis=0)[columns], known[0][columns]
