"""Names of environment variables that hold secrets."""

import pytest

from sweeper.secret_names import is_secret_name


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "MY_token", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DB_PASSWD", "APIKEY", "API_KEY_PROD", "AWS_CREDENTIALS"]
)
def test_secrets_are_recognised(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "SECRETARY", "PATH"])
def test_other_names_are_not(name):
    assert not is_secret_name(name)
