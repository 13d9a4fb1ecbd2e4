#!/bin/bash
# Carries a PostgreSQL 12 bank that is being written to into two PostgreSQL 15 shards with another
# schema, and shows that both sides are equal. `--help` names the options.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/tools/setup"
if [ ! -f "$root/build/build.ninja" ]; then
    CC=gcc meson setup "$root/build" "$root" >/dev/null
fi
ninja -C "$root/build" --quiet
exec env PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$root/demo/demo.py" "$@"
