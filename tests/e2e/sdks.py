"""Lets the SDKs of Upstash do their work, as they are published, and the client of docs/front-door.md, as it stands there.
The arguments are the URL, the token that writes, and the one that reads."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from stack import HERE, NODE, NODE_MODULES


def try_sdks(url, write_token, read_token):
    with tempfile.TemporaryDirectory() as folder:
        # Node.js looks for modules beside the script.
        pathlib.Path(folder, "node_modules").symlink_to(NODE_MODULES)
        script, snippet = pathlib.Path(folder, "upstash.mjs"), pathlib.Path(folder, "snippet.mjs")
        script.write_text((HERE / "upstash.mjs").read_text())
        # The client of the page writes what the script then expects to find.
        snippet.write_text(snippet_of_page())
        for command, expected in (
            ([NODE, snippet], ""),
            ([NODE, script], "passed"),
            ([sys.executable, HERE / "upstash_python.py"], "passed"),
        ):
            said = subprocess.run(
                [*command, url, write_token, read_token],
                env={**os.environ, "URL": url, "TOKEN": write_token},
                capture_output=True,
                text=True,
                timeout=60,
            )
            if said.returncode or said.stdout.strip() != expected:
                sys.exit(f"{command}: {said.stdout}{said.stderr}")


def snippet_of_page():
    page = (HERE.parent.parent / "docs/front-door.md").read_text()
    (snippet,) = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    return snippet


if __name__ == "__main__":
    try_sdks(*sys.argv[1:])
    print("passed")
