"""The SAP algorithm: projection of a network's weights onto the activation space of trusted samples (Algorithm 1 of the paper).

`sap` selects trusted samples (`trusted`), accumulates second moments of every layer's inputs (`layers`, `gram`, `attention`), decomposes
them (`spectrum`) and projects the weights (`project`). `library` applies it to a network and images without a task; `variants` are the
options of the released code. Like every method, this folder sees given labels only: it may import neither data sets nor the evaluation.
"""

from sap_core.sap.sap import SAP

__all__ = ["SAP"]
