"""Reads the clients of the documentation, as they stand there."""

import pathlib
import re

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent


def snippets():
    """Returns the snippets by client."""
    page = (PROJECT / "docs/clients.md").read_text()
    sync, of_asyncio, django = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (ioredis,) = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    (redis_cli,) = re.findall(r"^redis-cli .*$", page, re.MULTILINE)
    (openssl,) = re.findall(r"^openssl .*$", page, re.MULTILINE)
    return {
        "redis-py": sync,
        "redis-py asyncio": sync + of_asyncio,
        "Django": sync + django,
        "ioredis": ioredis,
        "redis-cli": redis_cli,
        "openssl": openssl,
    }
