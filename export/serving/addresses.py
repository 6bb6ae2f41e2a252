"""Hosts and ports. Imports no TensorFlow, so that a port that is taken is told at once."""

import os
import socket
from typing import NamedTuple

_BACKLOG = 4096
"""Connections that the system keeps for us until they are accepted, at most."""


class Listener(NamedTuple):
    """Where a server listens; a port of 0 is any free one."""

    host: str
    rest_socket: socket.socket
    grpc_port: int


def listen(host: str, *, rest_port: int, grpc_port: int) -> Listener:
    """Takes the REST port, and tries the gRPC port, which gRPC takes itself.

    Raises:
        ValueError: if one is taken, or the host is none of this machine's.
    """
    rest_socket = _bound(host, rest_port, "rest_port")
    try:
        _bound(host, grpc_port, "grpc_port").close()
    except ValueError:
        rest_socket.close()
        raise
    return Listener(host, rest_socket, grpc_port)


def authority(host: str, port: int) -> str:
    """`host:port` as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(host: str, port: int, flag: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"host ({host}) is no address: {error}; use 127.0.0.1, or 0.0.0.0 for all") from error
    try:
        # It listens at once: of two servers that start at the same time both could bind. Who comes in a flood of others waits
        # in the backlog; one that is full sends him away, to come again a second later.
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=family == socket.AF_INET6)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ValueError(f"cannot listen at {authority(host, port)} ({reason}): choose another --{flag} or --host") from error
