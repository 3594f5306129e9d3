"""Adjustments as modules: they give what `apply` gives, and every exporter of PyTorch takes them."""

import io
import math
import warnings
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from bisector.information.geometry import ClassGeometry
from bisector.posthoc import Adjustment, BaseAdjustment, GeometryAdjustment, LinearAdjustment
from bisector.posthoc.modules import GeometryModule

D = 12
COUNTS = [60, 30, 13, 12, 7, 2, 1, 0, 40, 5]  # more rows than D, fewer, one, and none


def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(n, len(COUNTS), generator=draw, dtype=torch.float64)
    return scores, 3 * torch.randn(n, D, generator=draw, dtype=torch.float64)


def geometry(**options: Any) -> ClassGeometry:
    labels = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))
    draw = torch.Generator().manual_seed(5)
    means = 5 * torch.randn(len(COUNTS), D, generator=draw, dtype=torch.float64)
    x = means[labels] + torch.randn(len(labels), D, generator=draw, dtype=torch.float64) * (
        1 + labels[:, None]
    )
    return ClassGeometry.fit(x, labels, len(COUNTS), **options)


def pooled(k: int | None = None, kind: Any = "logits", r: float = 0.0, **options: Any) -> GeometryAdjustment:
    one = geometry(**options)
    return GeometryAdjustment(one, 0.8, 0.3, 0.2, -0.4, r, layer(one.scale), k=k, kind=kind)


def layer(scale: str) -> LinearAdjustment:
    draw = torch.Generator().manual_seed(6)
    weight = torch.randn(len(COUNTS), D, generator=draw, dtype=torch.float64)
    return LinearAdjustment(weight, weight[:, 0].clone(), scale)


CASES = {
    "offsets": Adjustment(torch.arange(10.0).double(), 1.7),
    "offsets of probabilities": Adjustment(torch.arange(10.0).double(), kind="probabilities"),
    "layer": layer("raw"),
    "layer of directions": layer("unit"),
    "identity": GeometryAdjustment(geometry(), 1.5),
    "geometry": pooled(),
    "geometry of three classes": pooled(3),
    "geometry of one class": pooled(1),
    "geometry of all by k": pooled(10),
    "geometry of directions": pooled(scale="unit"),
    "geometry of probabilities": pooled(4, "probabilities"),
    "geometry without a budget": pooled(memory_budget=0),
    "geometry and a layer": pooled(r=0.3),
    "geometry and a layer of three classes": pooled(3, r=0.3),
    "geometry and a layer of directions": pooled(3, "probabilities", r=0.3, scale="unit"),
    "Gaussian geometry": pooled(dof=math.inf),
    "linear discriminant": pooled(kappa=math.inf),
}
EVERY = pytest.mark.parametrize("adjustment", CASES.values(), ids=list(CASES))


def given(adjustment: BaseAdjustment, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    scores, embeddings = rows(n, seed)
    return (scores.softmax(1) if adjustment.kind == "probabilities" else scores), embeddings


@EVERY
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_a_module_gives_what_apply_gives(adjustment: BaseAdjustment, dtype: torch.dtype, near: float) -> None:
    scores, embeddings = (values.to(dtype) for values in given(adjustment, 50))
    embeddings[7] = 0
    module = adjustment.module(dtype)
    assert not list(module.parameters())
    found = module(scores, embeddings)
    assert found.dtype == dtype
    torch.testing.assert_close(found, adjustment.apply(scores, embeddings), rtol=near, atol=near)
    assert torch.equal(found.argmax(1), adjustment.predict(scores, embeddings))


def test_blocks_of_classes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, (scores, embeddings) = pooled(4), rows(50, 1)
    monkeypatch.setattr("bisector.posthoc.modules._CELLS", 2 * D)
    module = whole.module(torch.float64)
    assert isinstance(module, GeometryModule)
    assert len(module.blocks) > 3
    torch.testing.assert_close(
        module(scores, embeddings), whole.apply(scores, embeddings), rtol=0, atol=1e-10
    )


def test_lengths_beyond_the_range_of_squares_have_directions() -> None:
    adjustment = layer("unit")
    scores, embeddings = (values.float() for values in rows(5, 2))
    far = embeddings * torch.tensor([1e30, 1e-30, 1.0, 1e25, 1e-25])[:, None]
    found = adjustment.module()(scores, far)
    torch.testing.assert_close(found, adjustment.module()(scores, embeddings), rtol=1e-5, atol=1e-5)


@EVERY
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_traced_exported_and_compiled_they_take_any_number_of_rows(adjustment: BaseAdjustment) -> None:
    module = adjustment.module()
    first = tuple(values.float() for values in given(adjustment, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # that a size or a value was baked in
        traced = torch.jit.trace(module, first)
    dims = {"scores": {0: torch.export.Dim("rows", min=2, max=1000)}}
    dims["embeddings"] = dims["scores"]
    exported = torch.export.export(module, first, dynamic_shapes=dims).module()
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for n in (2, 30):
        more = tuple(values.float() for values in given(adjustment, n, 1))
        for made in (traced, exported, compiled):
            torch.testing.assert_close(made(*more), module(*more), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [*((name, False) for name in CASES), ("layer of directions", True), ("geometry of three classes", True)],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_runtime_gives_the_same(name: str, dynamo: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if dynamo:
        pytest.importorskip("onnxscript")
    adjustment = CASES[name]
    module, file = adjustment.module(), io.BytesIO()
    first = tuple(values.float() for values in given(adjustment, 7))
    how: dict[str, Any] = {"input_names": ["scores", "embeddings"], "dynamo": dynamo}
    if dynamo:
        rows = {0: torch.export.Dim("rows", min=1, max=1000)}
        how |= {"dynamic_shapes": {"scores": rows, "embeddings": rows}, "verbose": False}
    else:
        how["dynamic_axes"] = {"scores": {0: "rows"}, "embeddings": {0: "rows"}}
    torch.onnx.export(module, first, file, **how)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    for n in (1, 30):
        scores, embeddings = (values.float() for values in given(adjustment, n, 2))
        fed = {"scores": scores.numpy(), "embeddings": embeddings.numpy()}
        (found,) = session.run(None, {name: values for name, values in fed.items() if name in taken})
        expected = adjustment.apply(scores, embeddings)
        numpy.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
