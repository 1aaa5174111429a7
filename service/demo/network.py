"""Free ports, and HTTP to what runs on this machine."""

import secrets
import socket
import ssl
from pathlib import Path

import httpx

HOST = "127.0.0.1"

_FIRST_QUIET_PORT = 10_000
"""Below it people and programs have their favourites."""
_FIRST_PORT, _LAST_PORT = 1024, 65535
_LINUX_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_IANA_EPHEMERAL_RANGE = (49152, 65535)


class LocalWorldError(Exception):
    """A local process does not start or does not do its part; the text says why, and what to do."""


def free_port() -> int:
    """Return a TCP port that nobody listens on, outside the ephemeral range.

    A client that polls a port of the ephemeral range may be given that very port for its own end, connect to itself,
    and so take the port from the server.

    Raises:
        LocalWorldError: there is no such port.
    """
    low, high = _ephemeral_range()
    outside = [port for port in range(_FIRST_PORT, _LAST_PORT + 1) if not low <= port <= high]
    candidates = [port for port in outside if port >= _FIRST_QUIET_PORT] or outside
    # Shuffling all of them would take longer than trying a few from a random place on.
    start = secrets.randbelow(len(candidates)) if candidates else 0
    for port in candidates[start:] + candidates[:start]:
        if _is_free(port):
            return port
    raise LocalWorldError(f"no free TCP port outside the ephemeral range, which is {low} to {high} on this machine")


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = map(int, _LINUX_EPHEMERAL_RANGE.read_text().split())
    except OSError:
        return _IANA_EPHEMERAL_RANGE
    return low, high


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            # On all interfaces, as the service listens.
            probe.bind(("", port))
        except OSError:
            return False
    return True


def local_client(timeout: float = 60) -> httpx.Client:
    """Return a client without proxy and without certificates, whose loading takes 80 ms."""
    return httpx.Client(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=timeout)


def check(answer: httpx.Response, action: str) -> None:
    """Refuse an answer that is no success.

    Raises:
        LocalWorldError: "cannot ACTION", with the status and the beginning of the answer.
    """
    if not answer.is_success:
        raise LocalWorldError(f"cannot {action}: HTTP {answer.status_code} {answer.text[:500]}")
