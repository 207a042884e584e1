"""Replaces wandb in the mirror's process: FAKE_WANDB sets its behaviour, FAKE_WANDB_LOG is the file of its calls."""

import json
import os
import signal
import time
from pathlib import Path


def _say(**told):
    with Path(os.environ["FAKE_WANDB_LOG"]).open("a") as file:
        file.write(json.dumps(told) + "\n")


class Settings:
    def __init__(self, **options):
        pass


class Table:
    def __init__(self, columns, data, allow_mixed_types):
        assert all(len(line) == len(columns) for line in data)
        self.told = [columns, data]


class _Summary:
    def update(self, values):
        _say(call="summary", values=values)


class _Run:
    summary = _Summary()

    def log(self, values, step=None):
        _say(call="log", step=step, values={name: getattr(value, "told", value) for name, value in values.items()})

    def finish(self):
        _say(call="finish")


def init(**options):
    how = os.environ.get("FAKE_WANDB", "works")
    options.pop("settings")
    _say(call="init", key=os.environ.get("WANDB_API_KEY"), **options)
    if how == "raises":
        raise RuntimeError(f"bad key {os.environ.get('SECRET_OF_THIS_TEST')}")
    if how == "hangs":
        time.sleep(600)
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGKILL)
    return _Run()
