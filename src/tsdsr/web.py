"""What every web server of this package shares: the listening socket and the headers of all answers."""

from __future__ import annotations

import socket

from tsdsr.errors import InvalidInputError

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src {images}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: scripts, styles and requests of the page itself, pictures from ``images``."""

COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        InvalidInputError: The port is in use, or the host is not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        # Python adds the address to the reason, which the message has already.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while attempting")[0]
        raise InvalidInputError(
            f"cannot listen on {host}, port {port} ({reason}); choose others with --host and --port"
        ) from error


def shown_address(host: str, listener: socket.socket) -> str:
    """Return the URL of the page that a listening socket serves, as this machine reaches it.

    "0.0.0.0" and "::" are all of its addresses, and none that every browser opens.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
