"""Label noise: frozen dataclasses that turn true labels into given labels, one kind per module.

`_target_` in YAML names them as `sap_core.data.noise.CLASS`. No other module of the project may import this folder.
"""

from sap_core.data.noise.asymmetric import Asymmetric
from sap_core.data.noise.classifier import Classifier
from sap_core.data.noise.clean import NoNoise
from sap_core.data.noise.hierarchical import Hierarchical
from sap_core.data.noise.human import Human
from sap_core.data.noise.instance import InstanceDependent
from sap_core.data.noise.interclass import Interclass
from sap_core.data.noise.linear_targets import LinearTargets
from sap_core.data.noise.outliers import Outliers
from sap_core.data.noise.pairflip import PairFlip
from sap_core.data.noise.patch import Patch
from sap_core.data.noise.sign_flip import SignFlip
from sap_core.data.noise.symmetric import Symmetric

__all__ = [
    "Asymmetric", "Classifier", "Hierarchical", "Human", "InstanceDependent", "Interclass", "LinearTargets", "NoNoise",
    "Outliers", "PairFlip", "Patch", "SignFlip", "Symmetric",
]  # fmt: skip
