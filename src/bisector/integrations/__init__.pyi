from bisector.integrations import sklearn as sklearn
from bisector.integrations import torchmetrics as torchmetrics
