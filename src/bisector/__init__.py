"""bisector: angular-margin softmax for PyTorch, guided by how much information each category holds.

>>> import bisector as bs, torch
>>> head = bs.AMSoftmax(in_features=16, num_classes=10)
>>> loss = head(torch.randn(4, 16), torch.tensor([3, 1, 4, 1]))
>>> head.logits(torch.randn(4, 16)).shape
torch.Size([4, 10])
"""

from typing import TYPE_CHECKING

from bisector._attributes import lazy as _lazy
from bisector._version import __version__

if TYPE_CHECKING:
    # What type checkers see; the aliases make these the package's own names.
    from bisector.engine.budget import MemoryBudget as MemoryBudget
    from bisector.engine.budget import release_workspace as release_workspace
    from bisector.engine.dispatch import margin_cross_entropy as margin_cross_entropy
    from bisector.engine.gradients import GradScaler as GradScaler
    from bisector.engine.gradients import clip_grad_norm_ as clip_grad_norm_
    from bisector.errors import ArgumentError as ArgumentError
    from bisector.functional.margins import Margin as Margin
    from bisector.functional.margins import PairwiseMargin as PairwiseMargin
    from bisector.functional.margins import additive_angle as additive_angle
    from bisector.functional.margins import additive_cosine as additive_cosine
    from bisector.functional.row_losses import RowLoss as RowLoss
    from bisector.guides.amount import normalized_amount as normalized_amount
    from bisector.guides.pairwise import pairwise_guide as pairwise_guide
    from bisector.heads import C2AM as C2AM
    from bisector.heads import HEADS as HEADS
    from bisector.heads import IGAM as IGAM
    from bisector.heads import LDAM as LDAM
    from bisector.heads import AMSoftmax as AMSoftmax
    from bisector.heads import ArcFace as ArcFace
    from bisector.heads import CombinedMargin as CombinedMargin
    from bisector.heads import CosineHead as CosineHead
    from bisector.heads import CountGuided as CountGuided
    from bisector.heads import EnhancedAMSoftmax as EnhancedAMSoftmax
    from bisector.heads import Head as Head
    from bisector.heads import LinearSoftmax as LinearSoftmax
    from bisector.heads import LogitAdjusted as LogitAdjusted
    from bisector.heads import NormalizedSoftmax as NormalizedSoftmax
    from bisector.heads import Seesaw as Seesaw
    from bisector.heads.sharding import shard_classes as shard_classes
    from bisector.heads.training_state import TrainingState as TrainingState
    from bisector.information.amount import information_amount as information_amount
    from bisector.information.amount import information_amounts as information_amounts
    from bisector.information.class_information import ClassInformation as ClassInformation
    from bisector.information.meter import InformationMeter as InformationMeter
    from bisector.optim.rowwise_adamw import RowwiseAdamW as RowwiseAdamW

# Where each public name lives. Nothing is imported before it is asked for: `bisector --help` starts at once.
_HOMES = {
    "ArgumentError": "errors",
    "MemoryBudget": "engine.budget",
    "release_workspace": "engine.budget",
    "margin_cross_entropy": "engine.dispatch",
    "GradScaler": "engine.gradients",
    "clip_grad_norm_": "engine.gradients",
    "Margin": "functional.margins",
    "PairwiseMargin": "functional.margins",
    "additive_angle": "functional.margins",
    "additive_cosine": "functional.margins",
    "RowLoss": "functional.row_losses",
    "normalized_amount": "guides.amount",
    "pairwise_guide": "guides.pairwise",
    "HEADS": "heads",
    "Head": "heads",
    "CosineHead": "heads",
    "LinearSoftmax": "heads",
    "NormalizedSoftmax": "heads",
    "AMSoftmax": "heads",
    "EnhancedAMSoftmax": "heads",
    "ArcFace": "heads",
    "CombinedMargin": "heads",
    "C2AM": "heads",
    "CountGuided": "heads",
    "IGAM": "heads",
    "LDAM": "heads",
    "LogitAdjusted": "heads",
    "Seesaw": "heads",
    "shard_classes": "heads.sharding",
    "TrainingState": "heads.training_state",
    "information_amount": "information.amount",
    "information_amounts": "information.amount",
    "ClassInformation": "information.class_information",
    "InformationMeter": "information.meter",
    "RowwiseAdamW": "optim.rowwise_adamw",
}

__all__ = [
    "__version__",
    *_HOMES,
]

_ROOMS = (
    "data",
    "detection",
    "engine",
    "functional",
    "guides",
    "heads",
    "information",
    "metrics",
    "optim",
    "posthoc",
    "report",
    "statistics",
    "training",
)

__getattr__, __dir__ = _lazy(__name__, _HOMES, _ROOMS)
