#!/usr/bin/env bash
# Builds what benches/gpu.sh runs on a machine with a GPU, where nothing need be built:
#   benches/gpu_build.sh BIN
# needs nvcc (see README.md); BIN gets electrode, the same without embedded kernels, and the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
mkdir -p "$bin"
test_binary() { # PACKAGE
    cargo test --release -p "$1" --test main --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
ELECTRODE_CUDA=off cargo build --release
cp target/release/electrode "$bin/electrode-nvrtc"
export ELECTRODE_CUDA=require
cargo build --release
cp target/release/electrode "$bin/electrode"
cp "$(test_binary electrode)" "$bin/tests"
strip "$bin"/*
ls -l "$bin"
