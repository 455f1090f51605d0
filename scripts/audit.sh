#!/usr/bin/env bash
# Licences, sources and known faults of the crates that the program is built from (deny.toml). Known faults need the
# database of advisories from the network; without it they are left out, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "audit: cargo-deny is missing; install it with: cargo install cargo-deny --locked" >&2
    exit 1
fi
cargo deny --locked check licenses bans sources
if cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check advisories
else
    echo "audit: the database of advisories cannot be reached: known faults were NOT checked" >&2
fi
