#!/usr/bin/env bash
# Builds what benches/gpu.sh runs on a machine with a GPU, where nothing need be built:
#   benches/gpu_build.sh BIN
# needs nvcc (see README.md); BIN gets electrode, the same without embedded kernels, the tests, and
# the images of the conformance kernels.
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
strip "$bin"/electrode "$bin"/electrode-nvrtc "$bin"/tests
# As kernels/build.rs finds it.
nvcc=${ELECTRODE_NVCC:-$(PATH=${CUDA_HOME:-}/bin:${CUDA_PATH:-}/bin:$PATH:/usr/local/cuda/bin \
    command -v nvcc || ls "${VIRTUAL_ENV:-}"/lib/*/site-packages/nvidia/cu13/bin/nvcc)}
mkdir -p "$bin/conformance"
for source in tests/kernels/cuda/conformance/*.cu; do
    stem=$(basename "$source" .cu)
    targets=(-gencode arch=compute_90a,code=sm_90a)
    case $stem in *_sm90) ;; *) targets+=(-gencode arch=compute_80,code=sm_80) ;; esac
    "$nvcc" -std=c++17 -fatbin -Werror all-warnings -Ikernels "${targets[@]}" "$source" \
        -o "$bin/conformance/$stem.bin"
done
ls -l "$bin" "$bin/conformance"
