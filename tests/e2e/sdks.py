"""Lets the SDKs of Upstash do their work, as they are published. The arguments are the URL, the token that writes, and the
one that reads."""

import pathlib
import subprocess
import sys
import tempfile

from stack import HERE, NODE, NODE_MODULES


def try_sdks(url, write_token, read_token):
    with tempfile.TemporaryDirectory() as folder:
        # Node.js looks for modules beside the script.
        pathlib.Path(folder, "node_modules").symlink_to(NODE_MODULES)
        script = pathlib.Path(folder, "upstash.mjs")
        script.write_text((HERE / "upstash.mjs").read_text())
        for command in ([NODE, script], [sys.executable, HERE / "upstash_python.py"]):
            said = subprocess.run(
                [*command, url, write_token, read_token], capture_output=True, text=True, timeout=60
            )
            if said.stdout.strip() != "passed":
                sys.exit(f"{command}: {said.stdout}{said.stderr}")


if __name__ == "__main__":
    try_sdks(*sys.argv[1:])
    print("passed")
