"""Who may ask, from where.

On loopback the machine's own people are trusted, and pages of other sites are not: a request must be for a name of this
machine (a stranger's name that resolves to it is not one), and one that changes something must come from our own page.
Elsewhere every request needs the token.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simat.errors import Denied

SHORTEST_TOKEN = 16
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class Security:
    """Who may ask.

    Attributes:
        token: what a client must know, None for nothing.
        hosts: names by which the server may be called, without ports; None for any.
        origins: of other sites' pages that may use the routes of ``FOREIGN``, beside those of this machine; ``*``: all.
        words: let logs hold what clients ask.
    """

    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    origins: frozenset[str] = frozenset()
    words: bool = False

    @classmethod
    def of(
        cls,
        host: str,
        token: str | None = None,
        names: Iterable[str] = (),
        origins: Iterable[str] = (),
        words: bool = False,
    ) -> Security:
        """What an address needs.

        Args:
            host: that the server binds to.
            token: the secret, if there is one.
            names: by which it is called besides, as behind a proxy.
            origins: as of the class.
            words: as of the class.

        Raises:
            Denied: an address that others reach, without a token.
        """
        check_binding(host, token)
        known = frozenset(name.lower() for name in names)
        own = LOOPBACK | {_bracketed(host.lower())} if is_loopback(host) else frozenset()
        return cls(token, own | known if own or known else None, frozenset(o.rstrip("/") for o in origins), words)


def check_binding(host: str, token: str | None) -> None:
    """Raise unless an address may be served: loopback, or any with a token.

    Raises:
        Denied: others would reach it without a token.
    """
    if token is None and not is_loopback(host):
        raise Denied(
            "an address that others reach needs a token",
            got=host,
            remedy="give --token-file FILE, or bind to 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than ``localhost`` is not trusted to be one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(file: Path) -> str:
    """The token in a file: its only line.

    Raises:
        Denied: the file cannot be read, has other lines, is open to other people, or too short to be a secret.
    """
    try:
        if file.stat().st_mode & 0o077:
            raise Denied("the token can be read by others", got=str(file), remedy=f"chmod 600 {file}")
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Denied("the token cannot be read", got=str(file)) from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Denied(
            f"a token is one line of at least {SHORTEST_TOKEN} printable characters",
            got=f"{len(token)} characters",
            remedy=f"python -c 'import secrets; print(secrets.token_urlsafe())' > {file}",
        )
    return token


def name_of(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
