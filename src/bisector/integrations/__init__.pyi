from bisector.integrations import sentence_transformers as sentence_transformers
from bisector.integrations import sklearn as sklearn
from bisector.integrations import torchmetrics as torchmetrics
from bisector.integrations import transformers as transformers
