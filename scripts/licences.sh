#!/usr/bin/env bash
# Prints the licence texts of the crates that are in the program, from their sources in cargo's registry.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo metadata --format-version 1 --locked --offline --no-default-features --features bundled-model \
    --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" |
    python3 -c '
import json, os, sys

data = json.load(sys.stdin)
packages = {package["id"]: package for package in data["packages"]}
nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
# What is linked in: no tools of the build, no tests.
linked, waiting = set(), [data["resolve"]["root"]]
while waiting:
    name = waiting.pop()
    if name in linked:
        continue
    linked.add(name)
    for dependency in nodes[name]["deps"]:
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            waiting.append(dependency["pkg"])
linked.discard(data["resolve"]["root"])
texts = {}
for package in sorted((packages[name] for name in linked), key=lambda package: (package["name"], package["version"])):
    folder = os.path.dirname(package["manifest_path"])
    found = []
    for name in sorted(os.listdir(folder)):
        if name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                found.append(open(path, errors="replace").read().strip())
    line = package["name"] + " " + package["version"] + ": " + (package["license"] or "see its text")
    print(line)
    for text in found:
        texts.setdefault(text, []).append(package["name"])
print()
for text, names in texts.items():
    print("=" * 80)
    print(", ".join(sorted(set(names))))
    print("=" * 80)
    print(text)
    print()
'
