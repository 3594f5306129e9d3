"""Detection data sets: pictures and their boxes from COCO, LVIS and Pascal VOC files."""

from bisector.data.boxes.box_set import BoxSet, BoxSplits, frequency_groups
from bisector.data.boxes.coco import read_coco
from bisector.data.boxes.load import load_boxes
from bisector.data.boxes.picture import Picture
from bisector.data.boxes.sampling import epoch_order, long_tailed, repeat_factors

__all__ = [
    "BoxSet",
    "BoxSplits",
    "Picture",
    "epoch_order",
    "frequency_groups",
    "load_boxes",
    "long_tailed",
    "read_coco",
    "repeat_factors",
]
