"""Detection data sets composed of cut-out objects on photographs."""

from bisector.data.boxes.scenes.load import load_scenes as load_scenes
