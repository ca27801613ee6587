"""The clients of the documentation, as they stand there."""

import pathlib
import re

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent


def snippets():
    """By client."""
    readme = (PROJECT / "README.md").read_text()
    section = readme.split("## TLS through the NLB")[1].split("\n## ")[0]
    sync, of_asyncio, django = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (ioredis,) = re.findall(r"```js\n(.*?)```", section, re.DOTALL)
    troubleshooting = (PROJECT / "docs/troubleshooting.md").read_text()
    (redis_cli,) = re.findall(r"^redis-cli .*$", troubleshooting, re.MULTILINE)
    (openssl,) = re.findall(r"^`(openssl s_client .* -verify_return_error .*?)`", troubleshooting, re.MULTILINE)
    return {
        "redis-py": sync,
        "redis-py asyncio": sync + of_asyncio,
        "Django": sync + django,
        "ioredis": ioredis,
        "redis-cli": redis_cli,
        "openssl": openssl,
    }
