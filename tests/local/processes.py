"""Starts processes that end with the test, however it ends."""

import atexit
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import DEVNULL, PIPE, Popen

from page import ROOT

ENDED_WITHIN = 150
STARTED = []


def start(command: list, environment: dict[str, str], output: int = PIPE) -> Popen:
    process = Popen(command, cwd=ROOT, env=environment, stdin=DEVNULL, stdout=output, stderr=output, text=True)
    STARTED.append(process)
    return process


def output_of(process: Popen) -> tuple[str, str]:
    stdout, stderr = process.communicate(timeout=ENDED_WITHIN)
    assert process.returncode == 0 and stdout, stderr
    return stdout, stderr


@contextmanager
def background(command: list, environment: dict[str, str]) -> Iterator[None]:
    process = start(command, environment, DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(ENDED_WITHIN)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def wait_for(port: str) -> None:
    deadline = time.monotonic() + ENDED_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError):
            return socket.create_connection(("127.0.0.1", int(port))).close()
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on {port}")


def end_all() -> None:
    left = [process for process in STARTED if process.poll() is None]
    for process in left:
        process.terminate()
    for process in left:
        process.wait()


def interrupted(*_) -> None:
    """Ends everything at once. Threads still wait for processes, so the interpreter would not end by itself."""
    end_all()
    os._exit(1)


atexit.register(end_all)
signal.signal(signal.SIGTERM, interrupted)
