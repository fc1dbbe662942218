#!/bin/sh
# Unpacks what lies beside it, once, and runs the check with that Node; check.mjs has the flags.
set -e
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if [ ! -x "$here/node" ]; then
  "$here/unlzma" < "$here/rest.tar.lzma" | tar -C "$here" -xf -
  "$here/unlzma" < "$here/node.lzma" > "$here/node.new"
  chmod +x "$here/node.new"
  mv "$here/node.new" "$here/node"
fi
exec "$here/node" "$here/bench/gpu/check.mjs" "$@"
