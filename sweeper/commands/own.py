"""`sap-sweep own KEY=VALUE ...`: corrects a network of the user on the user's images; the same as `sap-sweep experiment=own`."""

from __future__ import annotations

import argparse

from sap_core.errors import UserError
from sweeper.commands.common import add_overrides, examples
from sweeper.commands.run import run as run_sweep

_EXPERIMENT = "experiment=own"

_REQUIRED = ("trainer.checkpoint", "dataset.folder, dataset.file or dataset.table")

_PAGE = """
Nothing is trained: SAP corrects the checkpoint with 16 settings, the validation images choose one of them, and a report says whether to use
it. Paths are relative to the checkout (of an installed copy: to the working directory); data are below paths.data.

folder:
  data/mine/train/CLASS/*.png   the images and labels that the network was trained on
  data/mine/val/CLASS/*.png     images that it has not seen: they choose the setting and decide (labels may be as wrong as those of train)
  data/mine/test/CLASS/*.png    their scores are reported and decide nothing
  Without val/, validation images are drawn from train/. A network that has memorised them scores too well on them; the report tests this
  and then recommends nothing. Classes are numbered in the order of their folders' names, which must be the order of the outputs.

keys (a table of their values is printed before anything runs):
  trainer.checkpoint=FILE       state dict: .safetensors, or .pt/.pth as written by torch.save
  model.network=NAME            a classification network of torchvision (default resnet18); model=NAME for a YAML file of your own
  dataset.folder=FOLDER         or dataset=tensors dataset.file=FILE, or dataset=table dataset.table=FILE (sap-sweep list dataset)
  name=NAME                     results go to results/NAME (default own)
  trainer.preprocess.mean=[...] trainer.preprocess.std=[...]
                                normalisation of the network's training, per channel, for pixels in [0, 1] (default none, with a warning)
  dataset.size=PIXELS           images are resized to this square (default: theirs if all are squares of one size, or else the usual one
                                of the network)
  dataset.channels=1|3          default: the checkpoint's; grey and colour images are converted
  dataset.validation=N|SHARE    images drawn from train/ if there is no val/ (default 0.2)
  method.sap.corrector.num_trusted=N   images of lowest loss that SAP trusts (default: 2 % of the training images, at least 200 and ten per
                                class, at most a fifth of them)
  backend.device=cuda           default cpu
  dry_run=true                  make all checks, print the table and a forecast of the time, and run nothing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "keys of the configuration, as for sap-sweep experiment=own; the most important ones are below")
    parser.epilog = _PAGE.lstrip("\n") + "\n" + examples(
        "sap-sweep own model.network=resnet18 trainer.checkpoint=mine.pt dataset.folder=mine dry_run=true",
        "sap-sweep own model.network=resnet18 trainer.checkpoint=mine.pt dataset.folder=mine",
        "sap-sweep own model.network=resnet18 trainer.checkpoint=mine.pt dataset.folder=mine dataset.size=64 name=at64",
        note="then: sap-report results/own prints the tables and the recommendation. docs/own_model.md is the complete guide.",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """As `sap-sweep experiment=own`; see `sweeper.commands.run`.

    Raises:
        UserError: no key is given, or as a sweep.
    """
    if not options.overrides:
        raise UserError(f"sap-sweep own needs {' and '.join(_REQUIRED)}; sap-sweep own --help explains them")
    if not any(word.startswith("experiment=") for word in options.overrides):
        options.overrides = [_EXPERIMENT, *options.overrides]
    return run_sweep(options)
