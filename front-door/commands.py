"""Makes src/commands/table.rs from the command descriptions of Redis and Valkey.

It takes the source folders of both, for example:

    python3 front-door/commands.py ~/redis ~/valkey > front-door/src/commands/table.rs

A command is listed if each server that has it calls it @read or @write, and none of the categories below. The servers
derive these categories from the flags of a command, in setImplicitACLCategories:
<https://github.com/redis/redis/blob/7.4.1/src/server.c>
"""

import json
import sys
from pathlib import Path

REFUSED = {"DANGEROUS", "BLOCKING", "SCRIPTING", "ADMIN"}
# These are neither @read nor @write, or they block only with an option, which the front door refuses.
OTHERS = {"ECHO": "Read", "PING": "Read", "XREAD": "Read", "XREADGROUP": "Write", "PUBLISH": "Publish"}
SCRIPTS = {
    "EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "SCRIPT|EXISTS", "SCRIPT|LOAD",
}  # fmt: skip


def categories(command: dict) -> set[str]:
    flags, given = set(command.get("command_flags", [])), set(command.get("acl_categories", []))
    if "WRITE" in flags:
        given.add("WRITE")
    if "READONLY" in flags and "SCRIPTING" not in given:
        given.add("READ")
    if "ADMIN" in flags:
        given |= {"ADMIN", "DANGEROUS"}
    if "BLOCKING" in flags:
        given.add("BLOCKING")
    return given


def commands(source: Path) -> dict[str, set[str]]:
    """Returns the categories of each command. A subcommand is named CONTAINER|SUBCOMMAND."""
    found = {}
    for path in (source / "src" / "commands").glob("*.json"):
        for name, command in json.loads(path.read_text()).items():
            container = command.get("container")
            found[f"{container}|{name}" if container else name] = categories(command)
    if not found:
        sys.exit(f"{source} has no src/commands/*.json")
    return found


def kind(name: str, described: list[set[str]]) -> str | None:
    """Returns how the front door classes a command, or None if it refuses it."""
    if name in OTHERS:
        return OTHERS[name]
    if name in SCRIPTS:
        return "Script"
    if any(one & REFUSED for one in described):
        return None
    if all("WRITE" in one for one in described):
        return "Write"
    return "Read" if all("READ" in one and "WRITE" not in one for one in described) else None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    servers = [commands(Path(source)) for source in sys.argv[1:]]
    print("//! Made by commands.py.\n")
    print("use super::Kind::{self, Publish, Read, Script, Write};\n")
    print("/// The commands that may be sent, in order of their names.")
    print("pub const TABLE: &[(&str, Kind)] = &[")
    for name in sorted(set().union(*servers)):
        described = [server[name] for server in servers if name in server]
        if found := kind(name, described):
            print(f'    ("{name}", {found}),')
    print("];")


if __name__ == "__main__":
    main()
