"""The residual networks for images of 32 x 32 pixels."""

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from bisector.errors import require


class CifarResNet(nn.Module):
    """The ResNet for CIFAR: three stages of 16, 32 and 64 channels, averaged to an embedding of 64 dimensions.

    Each stage has `(depth - 2) / 6` blocks of two 3x3 convolutions; the second and third begin with a stride of 2.
    Shortcuts have no parameters: where the shape changes, every second pixel is taken and the new channels are zero
    ("option A"). ResNet-32 has 0.46 million parameters. Images may have any size of at least one pixel.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.

    Args:
        depth: 20, 32, 44, 56, 110, or any other `6n + 2`.
        in_channels: of the images.

    Raises:
        ArgumentError: if the depth is not `6n + 2`.

    >>> import torch
    >>> CifarResNet(20)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 64])
    """

    def __init__(self, depth: int, in_channels: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        require(blocks >= 1 and rest == 0, "depth", depth, "6n + 2, such as 20, 32, 44, 56 or 110")
        self.stem = nn.Sequential(_convolution(in_channels, 16), nn.BatchNorm2d(16))
        stages = [
            _BasicBlock(before if block == 0 else width, width, stride if block == 0 else 1)
            for before, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
            for block in range(blocks)
        ]
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(
        self,
        images: Tensor,  # (B, channels, height, width)
    ) -> Tensor:
        """Return the (B, 64) embeddings."""
        features: Tensor = self.stages(relu(self.stem(images)))
        return features.mean(dim=(2, 3))


class _BasicBlock(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = width - before
        self.residual = nn.Sequential(
            _convolution(before, width, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _convolution(width, width),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, before, h, w) -> (B, width, h / stride, w / stride)
        shortcut = x
        if self.stride > 1:
            half = self.new_channels // 2
            sides = (0, 0, 0, 0, half, self.new_channels - half)
            shortcut = pad(x[:, :, :: self.stride, :: self.stride], sides)
        return relu(shortcut + self.residual(x))


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
