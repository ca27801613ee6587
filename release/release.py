"""Writes what a release has for one processor architecture: the function's zip, and a CloudFormation template without a
transform, which needs neither SAM nor a toolchain.

The template is what the SAM translator makes of template.yaml. Only these differ: the code is an object of a bucket, whose
name and key are parameters; the architecture is the one of the zip; and what only SAM reads is left out.
"""

import argparse
import hashlib
import os
import tomllib
import zipfile
from pathlib import Path

import yaml
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

ROOT = Path(__file__).resolve().parents[1]
# CloudFormation takes a longer template only from a bucket.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LIMIT = 51_200
# The first time that a zip can have. The same code makes the same zip.
LONG_AGO = (1980, 1, 1, 0, 0, 0)
FILE_THAT_RUNS = 0o100755

CODE = {
    "CodeBucket": {
        "Type": "String",
        "Description": "Bucket in the stack's Region that has the function's zip.",
        "AllowedPattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "ConstraintDescription": "The name of a bucket, without s3://.",
    },
    "CodeKey": {
        "Type": "String",
        "Description": "Key of the zip in the bucket. A stack is updated only if the key is another one.",
        "AllowedPattern": "^.{1,1024}$",
        "ConstraintDescription": "The key of an object.",
    },
}
CODE_LABELS = {"CodeBucket": {"default": "Bucket of the code"}, "CodeKey": {"default": "Key of the code"}}


class Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeats what stands in several places."""

    def ignore_aliases(self, data) -> bool:
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def version() -> str:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def plain(template: dict, architecture: str, key: str) -> dict:
    """Returns the template without its transform, for the zip with this key."""
    parameters, interface = template["Parameters"], template["Metadata"]["AWS::CloudFormation::Interface"]
    parameters["Architecture"] |= {"Default": architecture, "AllowedValues": [architecture]}
    parameters["Architecture"]["Description"] = "The architecture of the zip."
    template["Parameters"] = CODE | parameters
    template["Parameters"]["CodeKey"] = CODE["CodeKey"] | {"Default": key}
    interface["ParameterGroups"].insert(0, {"Label": {"default": "Code"}, "Parameters": list(CODE)})
    interface["ParameterLabels"] = CODE_LABELS | interface["ParameterLabels"]
    function = template["Resources"]["Function"]
    function["Properties"]["CodeUri"] = {"Bucket": {"Ref": "CodeBucket"}, "Key": {"Ref": "CodeKey"}}
    # What is for SAM's build alone.
    for name in ("BuildMethod", "BuildProperties"):
        del function["Metadata"][name]
    # The translator puts a parameter's default in its place, unless it is given a value. Each keeps its reference.
    values = {name: {"Ref": name} for name in template["Parameters"]}
    translated = transform(template, values, None)
    # Nobody deploys this with SAM, and an empty destination is none.
    function, invoked = (translated["Resources"][name] for name in ("Function", "FunctionEventInvokeConfig"))
    assert function["Properties"].pop("Tags") == [{"Key": "lambda:createdBy", "Value": "SAM"}]
    assert invoked["Properties"].pop("DestinationConfig") == {}
    # The translator repeats what is said to checkov about the function.
    del invoked["Metadata"]
    return translated


def written(template: dict) -> str:
    def builtin(value):
        if isinstance(value, dict):
            return {key: builtin(one) for key, one in value.items()}
        return [builtin(one) for one in value] if isinstance(value, list) else value

    return yaml.dump(builtin(template), Dumper=Dumper, sort_keys=False, width=118)


def write_zip(path: Path, bootstrap: Path) -> None:
    entry = zipfile.ZipInfo("bootstrap", LONG_AGO)
    entry.external_attr = FILE_THAT_RUNS << 16
    entry.create_system = 3
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, bootstrap.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def write_sums(directory: Path) -> None:
    """Writes what `sha256sum --check` reads, about everything of a release that is there."""
    files = sorted(directory.glob("nlb-hostname-target-*"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (directory / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", choices=["x86_64", "arm64"])
    parser.add_argument("bootstrap", type=Path, help="the built function")
    parser.add_argument("directory", type=Path, help="where the two files are written")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    # The translator asks for a Region, and what it makes depends on none.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    name = f"nlb-hostname-target-{version()}-{given.architecture}"
    write_zip(given.directory / f"{name}.zip", given.bootstrap)
    template = yaml_parse((ROOT / "template.yaml").read_text())
    text = written(plain(template, given.architecture, f"{name}.zip"))
    assert len(text.encode()) <= LIMIT, f"{len(text.encode())} bytes, more than {LIMIT}"
    (given.directory / f"{name}.yaml").write_text(text)
    write_sums(given.directory)


if __name__ == "__main__":
    main()
