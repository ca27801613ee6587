"""Checks what a release has, against the template that SAM deploys.

It knows what the SAM translator promises, from its specification, and nothing of how the release is made:
https://github.com/aws/serverless-application-model/blob/develop/docs/internals/generated_resources.rst
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parent.parent
LIMIT = 51_200
ARCHITECTURES = ("x86_64", "arm64")
# What the release adds, or says in other words.
OF_THE_CODE = {"CodeBucket", "CodeKey", "Architecture"}
# What SAM makes of the function.
MADE = {
    "Function": "AWS::Lambda::Function",
    "FunctionSchedule": "AWS::Events::Rule",
    "FunctionSchedulePermission": "AWS::Lambda::Permission",
    "FunctionEventInvokeConfig": "AWS::Lambda::EventInvokeConfig",
}
ARN = {"Fn::GetAtt": ["Function", "Arn"]}


def parsed(text: str) -> dict:
    """Returns the template without the order of its keys, which the parser compares."""
    return json.loads(json.dumps(yaml_parse(text)))


def release(architecture: str, bootstrap: Path, directory: Path) -> tuple[Path, Path]:
    script = ROOT / "release" / "release.py"
    subprocess.run([sys.executable, script, architecture, bootstrap, directory], check=True)
    (zipped,) = directory.glob(f"*-{architecture}.zip")
    (template,) = directory.glob(f"*-{architecture}.yaml")
    assert zipped.stem == template.stem, (zipped, template)
    return zipped, template


def nothing_but_the_function_is_another(plain: dict, sam: dict) -> None:
    assert sam.pop("Transform") and "Transform" not in plain
    assert plain.keys() == sam.keys(), plain.keys() ^ sam.keys()
    for section in ("Description", "Rules", "Mappings", "Conditions", "Outputs"):
        assert plain[section] == sam[section], section
    for name in sam["Resources"].keys() - MADE.keys():
        assert plain["Resources"][name] == sam["Resources"][name], name
    others = plain["Resources"].keys() - sam["Resources"].keys()
    assert others == MADE.keys() - {"Function"}, others
    for name, of_type in MADE.items():
        assert plain["Resources"][name]["Type"] == of_type, name


def every_parameter_is_the_same(plain: dict, sam: dict, zipped: Path, architecture: str) -> None:
    for name in sam["Parameters"].keys() - OF_THE_CODE:
        assert plain["Parameters"][name] == sam["Parameters"][name], name
    assert plain["Parameters"].keys() - sam["Parameters"].keys() == {"CodeBucket", "CodeKey"}
    assert "Default" not in plain["Parameters"]["CodeBucket"]
    assert plain["Parameters"]["CodeKey"]["Default"] == zipped.name
    of_the_zip = plain["Parameters"]["Architecture"]
    assert (of_the_zip["Default"], of_the_zip["AllowedValues"]) == (architecture, [architecture]), of_the_zip
    interface = plain["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(plain["Parameters"]), "a parameter is in no group, or in two"
    assert interface["ParameterLabels"].keys() == plain["Parameters"].keys()


def the_function_has_what_sam_gives_it(plain: dict, sam: dict) -> None:
    given = sam["Resources"]["Function"]["Properties"]
    schedule, asynchronous = given.pop("Events")["Schedule"]["Properties"], given.pop("EventInvokeConfig")
    assert given.pop("CodeUri") == "."
    code = {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    resources = {name: plain["Resources"][name]["Properties"] for name in MADE}
    assert resources["Function"] == given | {"Code": code}, resources["Function"]
    target = {
        "Id": "FunctionScheduleLambdaTarget",
        "Arn": ARN,
        "RetryPolicy": schedule.pop("RetryPolicy"),
    }
    rule = schedule | {"ScheduleExpression": schedule["Schedule"], "Targets": [target]}
    del rule["Schedule"]
    assert resources["FunctionSchedule"] == rule, resources["FunctionSchedule"]
    assert resources["FunctionSchedulePermission"] == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Ref": "Function"},
        "Principal": "events.amazonaws.com",
        "SourceArn": {"Fn::GetAtt": ["FunctionSchedule", "Arn"]},
    }
    invoked = resources["FunctionEventInvokeConfig"]
    assert invoked == {"FunctionName": {"Ref": "Function"}, "Qualifier": "$LATEST"} | asynchronous, invoked


def the_zip_has_the_function_alone(zipped: Path, bootstrap: Path) -> None:
    """Expects the form of https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html: an executable file."""
    with zipfile.ZipFile(zipped) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.external_attr >> 16) == ("bootstrap", 0o100755), entry
        assert archive.read(entry) == bootstrap.read_bytes()


def main() -> None:
    with TemporaryDirectory() as directory:
        first, second = (Path(directory) / name for name in ("first", "second"))
        for place, mode in ((first, 0o755), (second, 0o600)):
            place.mkdir()
            (place / "bootstrap").write_bytes(b"a function" * 1000)
            (place / "bootstrap").chmod(mode)
        for architecture in ARCHITECTURES:
            zipped, template = release(architecture, first / "bootstrap", first)
            again = release(architecture, second / "bootstrap", second)
            assert [path.read_bytes() for path in (zipped, template)] == [path.read_bytes() for path in again]
            the_zip_has_the_function_alone(zipped, first / "bootstrap")
            text = template.read_text()
            size = len(text.encode())
            assert size <= LIMIT, f"{size} bytes are more than {LIMIT}"
            plain, sam = parsed(text), parsed((ROOT / "template.yaml").read_text())
            nothing_but_the_function_is_another(plain, sam)
            every_parameter_is_the_same(plain, sam, zipped, architecture)
            the_function_has_what_sam_gives_it(plain, sam)
            subprocess.run([Path(sys.executable).with_name("cfn-lint"), template], check=True)
    print(f"the template without a transform deploys what SAM deploys, in {size} of {LIMIT} bytes")


if __name__ == "__main__":
    main()
