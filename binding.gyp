{
  # A door onto CMake, so that `node-gyp rebuild` builds the same sources the same way.
  "targets": [{
    "target_name": "threefold",
    "type": "none",
    "actions": [{
      "action_name": "cmake",
      "inputs": ["CMakeLists.txt", "package.json"],
      "outputs": ["build/Release/threefold.node"],
      "action": ["node", "scripts/install.mjs"]
    }]
  }]
}
