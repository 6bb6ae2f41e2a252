"""What a request can be refused with, in the words of both protocols. Imports no TensorFlow."""

import enum
import re

import grpc

_NODE = re.compile(r"\s*\[\[\{?\{?(node|function_node)\b")
_MARKS = re.compile(r"\{\{[^}]*\}\}|\[Op:[^\]]*\]|^\(\d+\) [A-Z_ ]+: ")
_FRAMES = ("Graph execution error", "Detected at node", "<stack traces unavailable>", 'File "', "root error(s) found")


STOPPING = "the server is stopping: ask another one"
"""What a request is told that comes when the server is about to end."""


class Code(enum.Enum):
    """A kind of error: its status in gRPC, as in TensorFlow Serving, and in HTTP.

    Where HTTP has a word of its own it is used: for an unknown URL, a wrong method and a large body TensorFlow Serving answers
    400.
    """

    INVALID_ARGUMENT = (grpc.StatusCode.INVALID_ARGUMENT, 400)
    NOT_FOUND = (grpc.StatusCode.NOT_FOUND, 404)
    METHOD_NOT_ALLOWED = (grpc.StatusCode.UNIMPLEMENTED, 405)
    BODY_TOO_LATE = (grpc.StatusCode.DEADLINE_EXCEEDED, 408)
    TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, 413)
    UNKNOWN_ENCODING = (grpc.StatusCode.UNIMPLEMENTED, 415)
    UNKNOWN_EXPECTATION = (grpc.StatusCode.UNIMPLEMENTED, 417)
    INTERNAL = (grpc.StatusCode.INTERNAL, 500)
    UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, 501)
    UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, 503)
    DEADLINE_EXCEEDED = (grpc.StatusCode.DEADLINE_EXCEEDED, 504)

    def __init__(self, grpc_status: grpc.StatusCode, http_status: int) -> None:
        self.grpc_status, self.http_status = grpc_status, http_status


class ServingError(Exception):
    """A request is refused; the message is for the client, in one line."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> ServingError:
    """The error of a request that is wrong itself."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def graph_message(message: str) -> str:
    """The line of a TensorFlow error that says what is wrong, without the places in the graph where it was found."""
    before_node = _NODE.split(message, maxsplit=1)[0]
    lines = [_MARKS.sub("", line.strip()).strip() for line in before_node.splitlines()]
    telling = [line for line in lines if line and not any(frame in line for frame in _FRAMES)]
    return telling[-1] if telling else "the model refuses this input"
