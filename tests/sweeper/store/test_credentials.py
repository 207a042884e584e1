"""Names of environment variables that hold secrets."""

import pytest

from sweeper.store.credentials import redact, secrets


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "MY_token", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DB_PASSWD", "APIKEY", "API_KEY_PROD", "AWS_CREDENTIALS"]
)
def test_secrets_are_recognised(name):
    assert redact("login with hunter2hunter2", {name: "hunter2hunter2"}) == "login with ***"


@pytest.mark.parametrize("name", ["HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "SECRETARY", "PATH"])
def test_other_names_are_not(name):
    assert secrets({name: "hunter2hunter2"}) == {}
