"""Types into the page front-door/console.html, as a person would, in a real browser."""

import contextlib
import functools
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

from stack import BROWSER, HERE, NODE, NODE_MODULES, path_of

FOLDER = HERE.parent.parent / "front-door"
# What is typed, and what redis-cli 7.0 shows for it. It shows a status without quotes, of which the page knows OK alone.
TYPED = [
    ('SET "a key" "a b"', "OK"),
    ('GET "a key"', '"a b"'),
    (r'SET zero "\x00\n\"" EX 100', "OK"),
    ("get zero", r'"\x00\n\""'),
    ("GET nothing", "(nil)"),
    ('INCR "a key"', "(error) ERR value is not an integer or out of range"),
    ("MGET 'a key' nothing", '1) "a b"\n2) (nil)'),
    ("ZRANGE nothing 0 -1", "(empty array)"),
    ("MULTI", "OK"),
    ("SET number 1", "QUEUED"),
    ("INCRBY number 41", "QUEUED"),
    ("MGET number nothing", "QUEUED"),
    ("EXEC", '1) OK\n2) (integer) 42\n3) 1) "42"\n   2) (nil)'),
    ("SET large 9223372036854775806", "OK"),
    ("INCR large", "(integer) 9223372036854775807"),
    (r'SET raw "\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f"', "OK"),
    ("BITFIELD raw GET i64 0", "1) (integer) 9187201950435737471"),
    (r"""SET 'it\'s' foo"bar\x2c żó" """, "OK"),
    (r"""GET "it's" """, r'"foobar, \xc5\xbc\xc3\xb3"'),
    ("SET no\u00a0break 1", "OK"),
    (r'GET "no\xc2\xa0break"', '"1"'),
    ("MULTI", "OK"),
    ("MULTI", "(error) ERR MULTI calls can not be nested"),
    ("DISCARD", "OK"),
    ("KEYS *", "(error) NOPERM KEYS is not a command that the front door sends"),
    ('GET "unclosed', "(error) Invalid argument(s)"),
]
BINARY = [(r'SET binary "\xff\x00"', "OK"), ("GET binary", r'"\xff\x00"')]
TEXT_ALONE = [(r'SET binary "\xff"', "(error) REST takes no argument that is not UTF-8: use GraphQL")]
REFUSED = [("SET number 1", "(error) NOPERM SET changes the cache, and this client may only read")]
NOT_ALLOWED = [("GET number", "(error) no answer: is the URL right, and does it allow this page's origin?")]


class Page(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(port):
    """Yields the origin of the page, at this port or, if it is 0, at a free one."""
    handler = functools.partial(Page, directory=FOLDER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def try_console(sessions):
    """Types into the page. A session is its origin, its face, the URL, the key, whether it may write, and what is typed with
    what is then shown. It may name a file for a picture of the page."""
    browser = path_of(BROWSER)
    if not browser:
        sys.exit(f"Missing: {BROWSER}. On Debian: apt-get install {BROWSER}")
    given = [
        {"page": f"{origin}/console.html", "face": face, "url": url, "key": key, "mayWrite": may_write,
         "lines": [line for line, _ in typed], "screenshot": screenshot}
        for origin, face, url, key, may_write, typed, screenshot in sessions
    ]
    with tempfile.TemporaryDirectory() as folder:
        # Node.js looks for modules beside the script.
        pathlib.Path(folder, "node_modules").symlink_to(NODE_MODULES)
        script = pathlib.Path(folder, "console.mjs")
        script.write_text((HERE / "console.mjs").read_text())
        argument = json.dumps({"executable": browser, "sessions": given})
        said = subprocess.run([NODE, script, argument], capture_output=True, text=True, timeout=120)
    if said.returncode:
        sys.exit(said.stdout + said.stderr)
    for (_, face, *_, typed, _), result in zip(sessions, json.loads(said.stdout)):
        for (line, expected), shown in zip(typed, result["transcript"], strict=True):
            assert shown == expected, f"{face}: {line}\n{shown}\ninstead of\n{expected}"
        lines = [line for line, _ in typed]
        recalled = [*reversed(lines[-2:]), lines[-1], ""] if len(lines) > 1 else [lines[0], lines[0], "", ""]
        assert result["recalled"] == recalled, result
        assert (result["stored"], result["problems"]) == (0, []), result


def main(rest, graphql, key, write_token, read_token, port, picture=None):
    """The page is served at the port, whose origin is allowed, and at another one. A picture is taken if there is a file for
    it."""
    with served(int(port)) as allowed, served(0) as another:
        try_console([
            (allowed, "graphql", graphql, key, True, [*TYPED, *BINARY], None),
            (allowed, "rest", rest, write_token, False, [*TYPED, *TEXT_ALONE], None),
            (allowed, "graphql", graphql, key, False, REFUSED, None),
            (allowed, "rest", rest, read_token, False, REFUSED, None),
            (another, "rest", rest, write_token, False, NOT_ALLOWED, None),
            *([(allowed, "graphql", graphql, key, True, TYPED[:7], picture)] if picture else []),
        ])
    print("passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
