from bisector.detection.attaching import attach as attach
from bisector.detection.attaching import detach as detach
from bisector.detection.geometry import fit_geometry as fit_geometry
