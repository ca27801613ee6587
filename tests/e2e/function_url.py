"""Runs a Lambda function behind a function URL on loopback: its Runtime API, as many sandboxes as it is told, and the
HTTP server that turns requests into events.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html"""

import base64
import contextlib
import http
import http.server
import itertools
import json
import os
import queue
import subprocess
import threading
import time

TIMEOUT = 10


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Says nothing of sandboxes that end while they wait for an event."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def send(self, status, body=b"", headers=(), begin=lambda: None):
        """Sends everything at once, and calls `begin` before."""
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in [*headers, ("content-length", len(body))]]
        answer = "\r\n".join([*lines, "", ""]).encode() + body
        begin()
        self.wfile.write(answer)

    def parse_request(self):
        # The line of the request is there, and nothing of it was parsed yet.
        self.arrived = time.perf_counter()
        return super().parse_request()


@contextlib.contextmanager
def serving(handler):
    """Yields the port of a server on loopback."""
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Runtime:
    """The Runtime API of one function. Its sandboxes take the events from one queue."""

    def __init__(self):
        self.events = queue.Queue()
        self.answers = {}
        self.numbers = itertools.count()
        self.begun = {}
        # The time from handing over the last event to its answer, in seconds.
        self.took = None

    def invoke(self, event):
        """Returns what the function answers, or None if it does not in its time."""
        number = str(next(self.numbers))
        answer = self.answers[number] = queue.Queue()
        self.events.put((number, event))
        try:
            return answer.get(timeout=TIMEOUT)
        except queue.Empty:
            return None
        finally:
            del self.answers[number]

    def begin(self, number):
        self.begun[number] = time.perf_counter()

    def handler(runtime):
        class Api(Handler):
            def do_GET(self):
                number, event = runtime.events.get()
                deadline = str(int((time.time() + TIMEOUT) * 1000))
                headers = [("lambda-runtime-aws-request-id", number), ("lambda-runtime-deadline-ms", deadline)]
                headers.append(("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:f"))
                headers.append(("content-type", "application/json"))
                headers.append(("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"))
                self.send(200, json.dumps(event).encode(), headers, lambda: runtime.begin(number))

            def do_POST(self):
                number, what = self.path.split("/")[-2:]
                runtime.took = self.arrived - runtime.begun.pop(number)
                body = json.loads(self.body())
                if waiting := runtime.answers.get(number):
                    waiting.put(body if what == "response" else None)
                self.send(202)

        return Api


def event(method, path, query, headers, body):
    """Makes the event of a function URL. A body that is not text is in Base64."""
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "127.0.0.1"}, "stage": "$default"},
        "body": text,
        "isBase64Encoded": is_base64,
    }


def url_handler(runtime):
    class Url(Handler):
        def respond(self):
            path, _, query = self.path.partition("?")
            answer = runtime.invoke(event(self.command, path, query, self.headers, self.body()))
            # What Lambda answers for a function that failed.
            answer = answer or {"statusCode": 502, "headers": {}, "body": "Internal Server Error"}
            self.send(answer["statusCode"], answer["body"].encode(), answer["headers"].items())

        do_GET = do_POST = do_PUT = do_DELETE = respond

    return Url


class Function:
    """A function with its URL. It is started by `with`, and its sandboxes end with the block."""

    def __init__(self, command, variables, log, sandboxes=1):
        self.command, self.variables, self.log, self.count = command, variables, log, sandboxes
        self.runtime, self.sandboxes, self.stack = Runtime(), [], contextlib.ExitStack()

    def __enter__(self):
        api = self.stack.enter_context(serving(self.runtime.handler()))
        self.url = f"http://127.0.0.1:{self.stack.enter_context(serving(url_handler(self.runtime)))}"
        # Lambda sets these for every function.
        environment = {
            **os.environ,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/front-door",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            **self.variables,
        }
        output = self.stack.enter_context(open(self.log, "wb"))
        for _ in range(self.count):
            self.sandboxes.append(subprocess.Popen(self.command, env=environment, stdout=output, stderr=output))
        return self

    def __exit__(self, *_):
        for sandbox in self.sandboxes:
            sandbox.kill()
            sandbox.wait()
        self.stack.close()

    def lines(self):
        """Returns the lines of the log, each of which is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
