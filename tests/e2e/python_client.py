"""Runs a snippet of the documentation as it stands, and then one command with the client that it makes.

The snippet is the text of standard input, and the argument is the kind of client. The name of the load balancer leads to
the address in NLB_ADDRESS. Prints what came of the command, or of the first error, in one line."""

import asyncio
import os
import socket
import sys

from stack import NLB

look_up = socket.getaddrinfo


def leading_to_the_balancer(host, *arguments, **options):
    return look_up(os.environ["NLB_ADDRESS"] if host == NLB else host, *arguments, **options)


def of_sync(names):
    return names["client"].set("written by", "sync")


def of_asyncio(names):
    async def write():
        async with names["client"] as client:
            return await client.set("written by", "asyncio")

    return asyncio.run(write())


def of_django(names):
    from django.conf import settings

    settings.configure(CACHES=names["CACHES"])
    from django.core.cache import cache

    cache.set("written by", "django", 60)
    return cache.get("written by") == "django"


def main():
    socket.getaddrinfo = leading_to_the_balancer
    run = {"sync": of_sync, "asyncio": of_asyncio, "django": of_django}[sys.argv[1]]
    names = {}
    try:
        exec(compile(sys.stdin.read(), "snippet", "exec"), names)
        print("written" if run(names) is True else "not written")
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "))


if __name__ == "__main__":
    main()
