"""Data sets by name or path: readers, the split into three parts, the long tail, and augmentation."""
