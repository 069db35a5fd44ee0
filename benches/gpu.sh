#!/usr/bin/env bash
# Everything there is to learn from a machine with a GPU, in one call of less than 8 minutes.
#
#   benches/gpu.sh BIN OUT [PEERS]
#
# BIN holds `electrode`, `tests` and `conformance`, built elsewhere with nvcc (benches/gpu_build.sh);
# OUT takes the results: one log for each stage, table.txt, and what each wrapper of
# kernels/device*.cuh did (conformance/, for tests/kernels/cuda/conformance/); PEERS is a folder with the scripts that time other
# tools (w1_stats.py and its configs). Each stage has its own time limit, and the next one runs
# whatever became of it.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "$1") out=$(realpath "$2") peers=${3:-}
mkdir -p "$out"
: >"$out/table.txt"

# stage NAME SECONDS COMMAND...: its output to a log, one line about it to the table.
stage() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    printf '== %s\n' "$name"
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    local code=$?
    printf '%-24s exit %-3d %4d s\n' "$name" "$code" "$((SECONDS - start))" | tee -a "$out/table.txt"
    [ "$code" = 0 ] || tail -n 15 "$out/$name.log"
}

machine() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || true
    ldconfig -p | grep -E 'libcuda\.|libnvrtc' || true
    ldd "$bin/electrode"; getconf GNU_LIBC_VERSION; nvcc --version || true
    "$bin/electrode" devices; "$bin/electrode" devices --json
}

# 1. What is here.
stage machine 30 machine
# 2. The wrappers, then every kernel and fixture on the real device.
export ELECTRODE_TEST_GPU=real ELECTRODE_CONFORMANCE_IMAGES=$bin/conformance
ELECTRODE_CONFORMANCE_SAVE=$out/conformance stage conformance 30 "$bin/tests" \
    kernels::cuda::conformance --nocapture
stage kernels 120 "$bin/tests" kernels::cuda
stage fixtures 120 "$bin/tests" golden::cuda
stage scheduler 60 "$bin/tests" run::
# The PTX inside the images, and NVRTC in place of them.
CUDA_FORCE_PTX_JIT=1 stage ptx 90 "$bin/tests" kernels::cuda::norm
[ -x "$bin/electrode-nvrtc" ] && stage nvrtc 60 "$bin/electrode-nvrtc" bench gpt2 --device cuda:0 --rounds 1
# 3. The vendor's own checker, on small sizes.
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        stage "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/tests" \
            --test-threads 1 kernels::cuda::gemm kernels::cuda::attention
    done
fi
# 4. Ceilings by torch and ours, on the same card in the same minute.
stage ceilings 60 python3 benches/gpu_ceilings.py
for shape in pythia-1.4b llama-3.2-1b llama-3.1-8b; do
    stage "ours-$shape" 60 "$bin/electrode" bench "$shape" --device cuda:0 --dtype bf16 \
        --tokens 16384 --sequence 512 --batches 4 --rounds 5
    if [ -f "$peers/configs/$shape.json" ]; then
        peer=("$peers/w1_stats.py" --device cuda --dtype bfloat16 --random-init --impl hooks
            --model-config "$peers/configs/$shape.json" --words 262144 --seq-len 512 --repeat 3 --warmup 1)
        stage "torch-$shape" 90 python3 "${peer[@]}" --compile
    fi
done
stage ceilings-again 60 python3 benches/gpu_ceilings.py
printf '\n' >>"$out/table.txt"
for log in "$out"/ceilings*.log "$out"/ours-*.log "$out"/torch-*.log; do
    [ -f "$log" ] && { printf -- '-- %s\n' "$(basename "$log" .log)"; tail -n 20 "$log"; } >>"$out/table.txt"
done
cat "$out/table.txt"
