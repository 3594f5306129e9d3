from bisector.detection.attaching import attach as attach
from bisector.detection.attaching import detach as detach
