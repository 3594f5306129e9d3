"""bisector: angular-margin softmax for PyTorch, guided by how much information each category holds.

>>> import bisector as bs, torch
>>> head = bs.AMSoftmax(in_features=16, num_classes=10)
>>> loss = head(torch.randn(4, 16), torch.tensor([3, 1, 4, 1]))
>>> head.logits(torch.randn(4, 16)).shape
torch.Size([4, 10])
"""

from bisector._attributes import lazy as _lazy

# Nothing is imported before it is asked for: `bisector --help` starts at once. __init__.pyi declares the names.
__getattr__, __dir__, __all__ = _lazy(__name__)
