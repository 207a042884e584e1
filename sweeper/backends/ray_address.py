"""The address of a Ray cluster, and the sentences for a Ray that cannot be reached, joined or started. Imports no Ray."""

from __future__ import annotations

import contextlib
import socket

from sap_core.errors import UserError
from sweeper.backends.ray_start import TimedOut

REACH_SECONDS = 10.0
"""Timeout of a connection to the head of a cluster."""


def is_reachable(address: str) -> bool:
    """Returns whether a process listens at HOST:PORT."""
    with contextlib.suppress(OSError):
        _connect(address)
        return True
    return False


def _connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    # Brackets surround an IPv6 address in HOST:PORT.
    socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


def check_reachable(address: str) -> None:
    """Checks the address before `ray.init`, which retries for minutes and fails with a long traceback.

    Raises:
        UserError: no process listens there.
    """
    try:
        _connect(address)
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at backend.address={address} ({error.strerror or error}); start one with "
            "`ray start --head --port=PORT` and give its HOST:PORT, or leave backend.address out"
        ) from error


def init_error(address: str | None, error: BaseException, seconds: float) -> str:
    """Return the sentence for an error of `ray.init`, which had a time limit of `seconds`."""
    # Ray's messages span many lines and repeat its logs; the beginning names the cause.
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, TimedOut):
        text = f"it took more than {seconds:g} s, backend.start_seconds"
    if address:
        return (
            f"the Ray cluster at backend.address={address} could not be joined ({text}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(or RAY_AUTH_TOKEN_PATH) as they were when it was started, and start the sweep on one of its nodes; backend=local runs the "
            "sweep on this machine"
        )
    return f"Ray could not be started ({text}); use backend=local, or fix the cause"


def own_address(address: str) -> str | None:
    """The host of `address` if it is one of this machine's; else None. Without it Ray guesses among a machine's several addresses."""
    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError):
        family, kind, _, _, endpoint = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # Fails unless the address is this machine's.
            probe.bind(endpoint)
        return str(endpoint[0])
    return None
