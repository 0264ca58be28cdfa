"""What tests of several processes share."""

import socket


def free_port():
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]
