"""Data sets, label noise, splits, and the views of samples that methods see.

One module per data set; `source` defines their protocols, `assemble` builds a task from a job's specification. Methods may import `samples`
only: true labels (`verified`), noise and assembly are out of their reach.
"""
