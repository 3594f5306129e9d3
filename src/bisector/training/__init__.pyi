from bisector.training.guide import InformationGuide as InformationGuide
from bisector.training.module import Classifier as Classifier
from bisector.training.sharding import ShardedDDP as ShardedDDP
