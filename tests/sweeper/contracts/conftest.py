"""A trained toy network, and the checks of a contract that fail on a case."""

import pytest

from sap_core.run import PlainRun
from trainers.sgd import SGD

RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")


@pytest.fixture(scope="session")
def network(toys):
    task = toys.make_task("batch_norm")
    return RECIPE.fit(task, PlainRun()).model, task


@pytest.fixture(scope="session")
def failures_of():
    def failures(checks, case):
        """Description -> error of the checks that fail on the case; other errors count."""
        found = {}
        for check in checks:
            try:
                check.run(case)
            except Exception as error:
                found[check.description] = error
        return found

    return failures
