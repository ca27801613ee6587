"""Runs a snippet of the documentation as it stands, and then one command with the client that it makes.

The snippet is the text of standard input, and the first argument is the kind of client. The name of the load
balancer leads to the address in NLB_ADDRESS. It prints what came of the command, or the first error, in one line.
With a second argument, it writes again and again, this many seconds apart, until it is ended. Then it prints a line
of JSON for each write."""

import asyncio
import itertools
import json
import os
import socket
import sys
import time

from stack import NLB

look_up = socket.getaddrinfo


def leading_to_the_balancer(host, *arguments, **options):
    return look_up(os.environ["NLB_ADDRESS"] if host == NLB else host, *arguments, **options)


def of_sync(names):
    return names["client"].set


def of_asyncio(names):
    # The client has one loop for its whole life.
    loop = asyncio.new_event_loop()
    return lambda key, value: loop.run_until_complete(names["client"].set(key, value))


def of_django(names):
    from django.conf import settings

    settings.configure(CACHES=names["CACHES"])
    from django.core.cache import cache

    def write(key, value):
        # The cache returns nothing, and raises an error if it fails.
        cache.set(key, value, None)
        return True

    return write


def say(error):
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def write_on(write, kind, pause):
    for number in itertools.count():
        try:
            outcome = "written" if write(f"{kind}:{number}", number) is True else "not written"
        except Exception as error:
            outcome = say(error)
        print(json.dumps({"at": time.time(), "number": number, "outcome": outcome}), flush=True)
        time.sleep(pause)


def main():
    socket.getaddrinfo = leading_to_the_balancer
    kind, *pause = sys.argv[1:]
    names = {}
    try:
        exec(compile(sys.stdin.read(), "snippet", "exec"), names)
        write = {"sync": of_sync, "asyncio": of_asyncio, "django": of_django}[kind](names)
        if pause:
            return write_on(write, kind, float(pause[0]))
        print("written" if write("written by", kind) is True else "not written")
    except Exception as error:
        print(say(error))


if __name__ == "__main__":
    main()
