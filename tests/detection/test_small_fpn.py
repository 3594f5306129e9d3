import pytest
import torch

from bisector.detection.models import small_fpn
from bisector.errors import ArgumentError


def pictures(count: int = 4, size: int = 64) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Dark pictures with one bright square each, red or blue; the last is empty."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for number in range(count):
        image = 0.2 * torch.rand(3, size, size, generator=generator)
        left, top = torch.randint(0, size - 24, (2,), generator=generator).tolist()
        there = number < count - 1
        if there:
            image[2 * (number % 2), top : top + 24, left : left + 24] = 1
        boxes = torch.tensor([[left, top, left + 24, top + 24]] * there, dtype=torch.float32).reshape(-1, 4)
        targets.append({"boxes": boxes, "labels": torch.tensor([1 + number % 2] * there, dtype=torch.long)})
        images.append(image)
    return images, targets


def test_every_weight_is_trained_also_beside_a_picture_without_a_box() -> None:
    torch.manual_seed(0)
    model = small_fpn(3, 64)
    losses = model(*pictures())
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    sum(losses.values()).backward()
    silent = [
        name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not silent
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_pyramid_has_the_strides_that_it_says() -> None:
    levels = small_fpn(3, 64).eval().backbone(torch.zeros(1, 3, 64, 96))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        "0": (1, 48, 16, 24),
        "1": (1, 48, 8, 12),
        "2": (1, 48, 4, 6),
    }


@pytest.mark.slow
def test_it_learns_to_find_squares() -> None:
    torch.manual_seed(0)
    model = small_fpn(3, 64)
    images, targets = pictures(9)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    for _ in range(45):
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        found = model(images)
    for each, target in zip(found[:-1], targets[:-1], strict=True):
        assert each["labels"][0] == target["labels"][0]
        assert (each["boxes"][0] - target["boxes"][0]).abs().max() < 6


@pytest.mark.parametrize(
    ("classes", "size", "told"), [(1, 64, "num_classes: got 1"), (3, 8, "image_size: got 8")]
)
def test_what_is_not_legal(classes: int, size: int, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        small_fpn(classes, size)
