"""Deploys the front door for real, with the commands of docs/front-door.md: onto an AWS emulator with a secret in its
Secrets Manager, in front of a real Redis server with TLS and a password.

It expects the artifact of `sam build`, `sam` and `redis-server` in the path, and the clients of `make e2e`. The emulator
attaches no function to a VPC, so the function reaches the server on loopback.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import boto3
import botocore.auth
import botocore.awsrequest
from emulator_process import ROOT, Zone, emulator, free_port, running, step
from example_stack import Stack

PAGE = (ROOT / "docs" / "front-door.md").read_text()
E2E_PYTHON = ROOT / ".venv-e2e" / "bin" / "python"
READ_TOKEN = "a token that reads"
ADDRESS = "127.0.0.1"


def blocks() -> list[str]:
    """Returns the commands of the page, in order. What `make` has built already is not built again."""
    found = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [re.sub(r"^sam build .*\n", "", block, flags=re.MULTILINE) for block in found]


def attempt(script: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def bash(script: str, **variables: str) -> str:
    done = attempt(script, **variables)
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def make_certificate(folder: Path) -> Path:
    """Makes a certificate for the address, with its key. Whoever trusts it trusts nothing else by it."""
    path = folder / "server.pem"
    subject = ["-subj", "/CN=cache", "-addext", f"subjectAltName=IP:{ADDRESS}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    files = ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(path), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *files], check=True, capture_output=True)
    with path.open("a") as joined:
        joined.write((folder / "certificate.pem").read_text())
    return path


class Server:
    """A Redis server with TLS and a password."""

    def __init__(self, folder: Path) -> None:
        self.port, self.password = free_port(), "the first password"
        self.certificate = make_certificate(folder)
        self.folder = folder

    def running(self):
        settings = ["--bind", ADDRESS, "--port", "0", "--tls-port", str(self.port), "--save", "", "--dir", str(self.folder)]
        tls = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.certificate)]
        tls += ["--tls-auth-clients", "no", "--tls-ca-cert-file", str(self.certificate)]
        command = ["redis-server", *settings, *tls, "--requirepass", self.password]
        return running(command, dict(os.environ), self.folder / "redis.log", lambda: "PONG" in self.cli("ping"))

    def cli(self, command: str) -> str:
        given = ["redis-cli", "-h", ADDRESS, "-p", str(self.port), "--tls", "--insecure", "--no-auth-warning"]
        done = subprocess.run([*given, "-a", self.password], input=command, capture_output=True, text=True)
        return done.stdout

    def rotate(self, password: str) -> None:
        """Gives the server another password, and ends the connections that know the old one."""
        self.cli(f"config set requirepass '{password}'")
        self.password = password
        assert int(self.cli("client kill type normal")) >= 0


def at_the_emulator(url: str) -> str:
    """Returns where the emulator serves a function URL."""
    (url_id,) = re.findall(r"^https://([a-z0-9]+)\.lambda-url\.", url)
    return f"{os.environ['AWS_ENDPOINT_URL']}/_aws/lambda-url/{url_id}/"


def post(url: str, token: str, body: object) -> tuple[int, object]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


READ = "query ($c: [[String!]!]!) { read(commands: $c) { replies { value error { code message } lossy } error { code message } } }"
EXECUTE = """mutation ($c: [[String!]!]!, $e: Encoding) { execute(commands: $c, arguments: $e, replies: $e)
    { replies { value error { code message } lossy } error { code message } } }"""


def graphql(url: str, key: str | None, query: str, **variables: object) -> tuple[int, dict]:
    """Sends GraphQL with the key, or signed if there is none."""
    body = json.dumps({"query": query, "variables": variables})
    request = botocore.awsrequest.AWSRequest("POST", url, {"content-type": "application/json"}, body)
    if key is None:
        session = boto3.Session()
        signer = botocore.auth.SigV4Auth(session.get_credentials(), "appsync", session.region_name)
        signer.add_auth(request)
    else:
        request.headers["x-api-key"] = key
    request = urllib.request.Request(url, body.encode(), dict(request.headers))
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def value(text: str) -> dict:
    return {"value": text, "error": None, "lossy": False}


def try_graphql(update: Callable[[str], None], stack: Stack, token: str, port: int) -> None:
    """The emulator does not enforce the schema's directives, and tells the function nothing of who signed a request, so
    the function takes everybody for a client with a key."""
    page_deploys, page_reads = blocks()[5:7]
    first, _ = page_deploys.split("GraphQl=true")
    for given, why in (
        ("GraphQl=true ApiKeyAccess=read", "ApiKeyExpires must be given"),
        ("ApiKeyAccess=read ApiKeyExpires=1800000000", "GraphQl must be true"),
    ):
        refused = attempt(first + given)
        assert refused.returncode != 0 and why in refused.stderr, refused
    step("the template refused an API key without an end, and one without an API")

    update(page_deploys)
    api, appsync = stack.output("GraphQlApiId"), boto3.client("appsync")
    url = f"{os.environ['AWS_ENDPOINT_URL']}/v1/apis/{api}/graphql"
    answer = bash(page_reads.replace('curl "$(output GraphQlUrl)"', f'curl --silent "{url}"'))
    expected = {"read": {"replies": [{"value": '"hello world"', "error": None}], "error": None}}
    assert json.loads(answer) == {"data": expected}, answer
    assert json.dumps(expected, separators=(",", ":")) in PAGE
    (key,) = appsync.list_api_keys(apiId=api)["apiKeys"]
    assert abs(int(key["expires"]) - time.time() - 30 * 86400) < 3600, key
    assert key["id"] not in json.dumps(stack.outputs())
    in_base64 = [["SET", "YmluYXJ5", "/wA="], ["GET", "YmluYXJ5"]]
    _, answer = graphql(url, key["id"], EXECUTE, c=in_base64, e="BASE64")
    assert answer["data"]["execute"]["replies"] == [value('"T0s="'), value('"/wA="')], answer
    _, answer = graphql(url, key["id"], READ, c=[["GET", "binary"]])
    assert answer["data"]["read"]["replies"] == [{**value('"\ufffd\\u0000"'), "lossy": True}], answer
    assert graphql(url, "wrong", READ, c=[["GET", "greeting"]])[0] == 401
    for bad in ([["GET", {"a": 1}]], [["GET", None]], None):
        _, answer = graphql(url, key["id"], READ, c=bad)
        assert answer.get("errors") and not answer.get("data"), answer
    step("an API key reads and writes over GraphQL")

    given = [at_the_emulator(stack.output("FunctionUrl")), url, key["id"], token, READ_TOKEN, str(port)]
    picture = [os.environ["SCREENSHOT"]] if "SCREENSHOT" in os.environ else []
    typed = [E2E_PYTHON, ROOT / "tests" / "e2e" / "console.py", *given, *picture]
    tried = subprocess.run(typed, capture_output=True, text=True)
    assert tried.stdout.strip() == "passed", tried.stdout + tried.stderr
    step("a browser's page was typed into, over GraphQL and over REST")

    update(page_deploys.replace("ApiKeyAccess=write", "ApiKeyAccess=read"))
    (key,) = appsync.list_api_keys(apiId=api)["apiKeys"]
    _, answer = graphql(url, key["id"], READ, c=[["GET", "greeting"], ["GET", "nothing"], ["KEYS", "*"]])
    replies = answer["data"]["read"]["replies"]
    assert replies[:2] == [value('"hello world"'), value("null")], answer
    assert replies[2]["error"]["code"] == "NOPERM", answer
    _, answer = graphql(url, key["id"], EXECUTE, c=[["DEL", "greeting"]])
    error = answer["data"]["execute"]["error"]
    assert error["code"] == "NOPERM" and error["message"].endswith("because ApiKeyAccess is read"), answer
    _, answer = graphql(url, None, READ, c=[["GET", "greeting"]])
    assert answer["data"]["read"]["replies"] == [value('"hello world"')], answer
    step("an API key that reads does not write, and its refusal says why")

    update(f"{first} ApiKeyAccess=none")
    assert appsync.list_api_keys(apiId=api)["apiKeys"] == []
    error = graphql(url, None, READ, c=[["GET", "greeting"]])[1]["data"]["read"]["error"]
    assert error["message"].endswith("because ApiKeyAccess is none"), error
    # To the emulator, a change set that only takes resources away has no changes.
    update(f"{first} GraphQl=false MaxCommands=99")
    assert appsync.list_graphql_apis()["graphqlApis"] == []
    step("without access there is no key, and without GraphQL no API")


def try_iam(update: Callable[[str], None], stack: Stack, server: Server, url: str, token: str) -> None:
    """The emulator has no caches, and the server cannot check a token of IAM's. It lets the users in with any."""
    elasticache = boto3.client("elasticache")
    iam_mode = {"Type": "iam"}
    elasticache.create_user(
        UserId="app", UserName="app", Engine="valkey", AccessString="on ~* +@all", AuthenticationMode=iam_mode
    )
    elasticache.create_user_group(UserGroupId="users", Engine="valkey", UserIds=["app"])
    bash(blocks()[3], ENGINE="valkey", USER_GROUP="users")
    users = {user["UserId"]: user for user in elasticache.describe_users()["Users"]}
    access = dict(re.findall(r"^(reader|writer): (.+)$", PAGE, re.MULTILINE))
    for role, rules in access.items():
        assert users[f"front-door-{role}"]["AccessString"] == rules, users
        server.cli(f"acl setuser front-door-{role} nopass {rules}")
    group = elasticache.describe_user_groups(UserGroupId="users")["UserGroups"][0]
    assert {"front-door-reader", "front-door-writer"} <= set(group["UserIds"]), group

    first, _ = blocks()[5].split("GraphQl=true")
    refused = attempt(f"{first} Authentication=IAM 'SecretArn=\"\"'")
    assert refused.returncode != 0 and "CacheName, ReaderUser and WriterUser must be given" in refused.stderr, refused
    names = "CacheName=cache ReaderUser=front-door-reader WriterUser=front-door-writer"
    update(f"{first} Authentication=IAM 'SecretArn=\"\"' {names}")
    assert post(url, token, ["SET", "greeting", "signed"]) == (200, {"result": "OK"})
    assert post(url, READ_TOKEN, ["GET", "greeting"]) == (200, {"result": "signed"})
    clients = set(re.findall(r"user=(front-door-\w+)", server.cli("client list")))
    assert clients == {"front-door-reader", "front-door-writer"}, clients
    iam, role = boto3.client("iam"), stack.id("Role")
    policies = sorted(iam.list_role_policies(RoleName=role)["PolicyNames"])
    assert policies == ["attach", "connect", "log"], policies
    statements = iam.get_role_policy(RoleName=role, PolicyName="connect")["PolicyDocument"]["Statement"]
    resources = [resource.split(":", 5)[5] for resource in statements[0]["Resource"]]
    assert resources == ["replicationgroup:cache", "user:front-door-reader", "user:front-door-writer"], statements
    own = stack.id("SecurityGroup")
    assert ports(own, "IpPermissionsEgress") == [server.port], ports(own, "IpPermissionsEgress")
    step("the page's users log in with IAM, and the function reaches the cache alone")


def ports(group: str, direction: str) -> list[int]:
    """Returns the ports of the rules of a security group."""
    described = boto3.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    assert all(rule["FromPort"] == rule["ToPort"] for rule in described[direction]), described
    return sorted(rule["FromPort"] for rule in described[direction])


def diagnose() -> list[dict]:
    """Returns the findings of the page's command, which prints the answer last."""
    [command] = [block for block in blocks() if "diagnose.json" in block]
    return json.loads(bash(command).splitlines()[-1])["findings"]


def preflight(url: str, origin: str) -> str | None:
    """Returns the origin that a browser is told."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    request = urllib.request.Request(url, headers=headers, method="OPTIONS")
    try:
        with urllib.request.urlopen(request) as response:
            return response.headers["access-control-allow-origin"]
    except urllib.error.HTTPError as error:
        return error.headers["access-control-allow-origin"]


def run(server: Server) -> None:
    ec2, secrets = boto3.client("ec2"), boto3.client("secretsmanager")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)
    ]
    group = ec2.create_security_group(GroupName="cache", Description="The cache", VpcId=vpc)["GroupId"]
    secret = secrets.create_secret(Name="cache", SecretString=json.dumps({"password": server.password}))["ARN"]
    make_token, deploy, first_command = blocks()[:3]
    given = {
        "CACHE": ADDRESS,
        "SECRET_ARN": secret,
        "VPC": vpc,
        "SUBNETS": ",".join(subnets),
        "CACHE_SECURITY_GROUP": group,
    }
    token = bash(f"{make_token}\necho $WRITE_TOKEN")
    sum_of_reader = bash(f"printf %s '{READ_TOKEN}' | sha256sum | cut -d ' ' -f 1")
    port = free_port()
    origins = f"https://www.example.com,http://127.0.0.1:{port}"
    added = f" Port={server.port} ReadTokenSha256={sum_of_reader} AllowedOrigins={origins}\n"
    without_secret = deploy.replace('SecretArn="$SECRET_ARN"', "")
    assert without_secret != deploy
    refused = attempt(without_secret, WRITE_TOKEN=token, **given)
    assert refused.returncode != 0 and "SecretArn must be given" in refused.stdout + refused.stderr, refused
    step("without the secret's ARN the template refused SECRET")

    bash(deploy.rstrip() + added, WRITE_TOKEN=token, **given)
    stack = Stack("front-door")
    function, functions = stack.output("FunctionName"), boto3.client("lambda")
    variables = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    # The system does not trust the certificate of the test.
    trusting = {**variables, "SSL_CERT_FILE": str(server.certificate)}
    functions.update_function_configuration(FunctionName=function, Environment={"Variables": trusting})
    step("the page's commands deployed it")

    url = at_the_emulator(stack.output("FunctionUrl"))
    first_command = first_command.replace('curl "$URL"', f'curl --silent "{url}"')
    assert bash(first_command, WRITE_TOKEN=token) == '{"result":"OK"}'
    assert server.cli("get greeting").strip() == "hello world"
    assert post(url, token, ["GET", "greeting"]) == (200, {"result": "hello world"})
    status, answer = post(url, READ_TOKEN, ["DEL", "greeting"])
    assert (status, answer["error"][:10]) == (400, "NOPERM DEL"), answer
    status, answer = post(url, "wrong", ["GET", "greeting"])
    assert (status, answer["error"][:9]) == (401, "WRONGPASS"), answer
    assert diagnose() == []
    step("the first command was answered, a token that reads wrote nothing, and the page's diagnosis found nothing")

    tried = subprocess.run(
        [E2E_PYTHON, ROOT / "tests" / "e2e" / "sdks.py", url.rstrip("/"), token, READ_TOKEN], capture_output=True, text=True
    )
    assert tried.stdout.strip() == "passed", tried.stdout + tried.stderr
    step("@upstash/redis and upstash-redis did their work, unmodified")

    assert preflight(url, "https://www.example.com") == "https://www.example.com"
    assert preflight(url, "https://www.example.org") in (None, "")
    step("a browser may send commands from the allowed origin alone")

    secrets.put_secret_value(SecretId=secret, SecretString=json.dumps({"password": "the second password"}))
    server.rotate("the second password")
    assert post(url, token, ["GET", "greeting"]) == (200, {"result": "hello world"})
    step("after the secret was rotated, the next command was answered")

    another = secrets.create_secret(Name="another", SecretString=json.dumps({"password": server.password}))["ARN"]
    functions.update_function_configuration(
        FunctionName=function, Environment={"Variables": {**trusting, "SECRET_ARN": another}}
    )
    status, answer = post(url, token, ["GET", "greeting"])
    assert (status, answer["error"][:11]) == (503, "UNREACHABLE"), answer
    assert "AccessDenied" in answer["error"], answer
    [finding] = diagnose()
    assert finding["id"] == "login-unavailable" and "AccessDenied" in finding["seen"], finding
    step("the role reads its own secret alone, and the page's diagnosis says so")

    def update(command: str) -> None:
        bash(command)
        # A deployment sets the variables anew.
        found = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        trusting = {**found, "SSL_CERT_FILE": str(server.certificate)}
        functions.update_function_configuration(FunctionName=function, Environment={"Variables": trusting})

    try_graphql(update, stack, token, port)

    own = stack.id("SecurityGroup")
    assert ports(group, "IpPermissions") == [server.port], ports(group, "IpPermissions")
    assert ports(own, "IpPermissions") == [], ports(own, "IpPermissions")
    assert ports(own, "IpPermissionsEgress") == sorted([443, server.port]), ports(own, "IpPermissionsEgress")
    step("the cache admits the function to its port, and the function reaches the cache and Secrets Manager alone")

    try_iam(update, stack, server, url, token)

    deleted = bash("sam delete --no-prompts --stack-name front-door --region $AWS_DEFAULT_REGION")
    assert functions.list_functions()["Functions"] == [], deleted
    assert ports(group, "IpPermissions") == []
    step("the stack was deleted, and its rule with it")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, emulator(Zone()):
        server = Server(Path(folder))
        with server.running():
            run(server)


if __name__ == "__main__":
    sys.exit(main())
