"""The classifier heads: one file a head.

`HEADS` maps the name on the command line to the class. A new head is a file here, an import, and an entry in
`bisector.head_names`.
"""

from bisector.head_names import HEAD_CLASSES
from bisector.heads.am_softmax import AMSoftmax
from bisector.heads.arcface import ArcFace
from bisector.heads.base import CosineHead, Head
from bisector.heads.c2am import C2AM
from bisector.heads.combined_margin import CombinedMargin
from bisector.heads.count_guided import CountGuided
from bisector.heads.enhanced_am_softmax import EnhancedAMSoftmax
from bisector.heads.igam import IGAM
from bisector.heads.ldam import LDAM
from bisector.heads.linear_softmax import LinearSoftmax
from bisector.heads.logit_adjusted import LogitAdjusted
from bisector.heads.normalized_softmax import NormalizedSoftmax
from bisector.heads.seesaw import Seesaw

HEADS: dict[str, type[Head]] = {name: globals()[kind] for name, kind in HEAD_CLASSES.items()}

__all__ = [
    "C2AM",
    "HEADS",
    "IGAM",
    "LDAM",
    "AMSoftmax",
    "ArcFace",
    "CombinedMargin",
    "CosineHead",
    "CountGuided",
    "EnhancedAMSoftmax",
    "Head",
    "LinearSoftmax",
    "LogitAdjusted",
    "NormalizedSoftmax",
    "Seesaw",
]
