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
if ! "$here/node" -e 0; then
  echo "[gpu-check] expected C and C++ libraries as new as those of the machine that made this bundle, received older ones (above). Try making it on an older system, or a newer container here." >&2
  exit 1
fi
exec "$here/node" "$here/bench/gpu/check.mjs" "$@"
