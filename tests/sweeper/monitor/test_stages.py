"""What a command says before the progress display starts."""

import io
import os
import time
from dataclasses import replace

import pytest

from sweeper.monitor import stages
from sweeper.monitor.running import running_trainings
from sweeper.monitor.stages import showing_stages, stage


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stages, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(stages, "_POLL_SECONDS", 0.001)


def until(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


def test_each_stage_has_a_line_on_a_terminal_and_none_in_a_log():
    log, terminal = io.StringIO(), Terminal()
    with showing_stages(log):
        stage("one")
        time.sleep(0.05)
    with showing_stages(terminal):
        for text in ("one", "two"):
            stage(text)
            until(lambda text=text: text in terminal.getvalue())
    assert (log.getvalue(), terminal.getvalue()) == ("", "one ...\ntwo ...\n")


def test_a_terminal_gets_a_sign_of_life(monkeypatch):
    monkeypatch.setattr(stages, "REPEAT_SECONDS", 0.01)
    stream = Terminal()
    with showing_stages(stream):
        stage("one")
        until(lambda: "one: 0 s ..." in stream.getvalue())
        stage(None)
        time.sleep(0.05)
        before = stream.getvalue()
        time.sleep(0.05)
        assert stream.getvalue() == before


def test_nothing_is_said_of_a_command_that_ends_at_once(monkeypatch):
    monkeypatch.setattr(stages, "FIRST_SECONDS", 60.0)
    stream = Terminal()
    with showing_stages(stream):
        stage("one")
    assert stream.getvalue() == ""


def test_a_call_from_python_says_nothing(capfd):
    stage("one")
    assert capfd.readouterr().err == ""


def test_the_last_epoch_of_each_running_training(tmp_path, make_job):
    spec = {"trainer": {"settings": {"epochs": 30}}}
    jobs = {
        name: replace(make_job(name, job_type="train", method="vanilla", space=None), spec=spec) for name in ("aa", "bb", "cc", "dd", "ee")
    }
    jobs["ff"] = make_job("ff")
    for number, name in enumerate(jobs):
        line = f"2026-12-01 16:41:33,142 INFO epoch {number + 1}: loss 1.8\n"
        (tmp_path / f"{name}.log").write_text(
            f"2026-12-01 16:41:23,812 INFO train starts\n{line}2026-12-01 16:41:34,1 INFO checkpoint stored"
        )
    (tmp_path / "bb.log").unlink()
    # The log of an earlier start.
    os.utime(tmp_path / "cc.log", (1, 1))
    network, seed = jobs["aa"].labels["network"], jobs["aa"].labels["seed"]
    of = f"of 30 ({network}, seed {seed})"
    assert running_trainings(jobs, tmp_path, 100.0) == f"epoch 1 {of}, epoch 4 {of}, epoch 5 {of}"
    assert running_trainings(jobs, tmp_path, 0.0).endswith("1 more trainings")
    assert running_trainings({}, tmp_path, 0.0) == ""
