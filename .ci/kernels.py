"""Compiles every kernel with the pinned nvcc and holds it to kernels/RESOURCES.txt.

usage: .ci/kernels.py NVCC_FOLDER [--update]

For sm_80 and sm_90a: no warning, no spill, no stack frame; registers, static shared memory and the
bytes of the argument struct as in the golden file; the instructions each kernel stands for are in its
machine code. --update writes the golden file anew. The small kernels of the conformance tests are held
to the same, but for the golden file.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
CONFORMANCE = ROOT / "tests" / "kernels" / "cuda" / "conformance"
GOLDEN = KERNELS / "RESOURCES.txt"
TARGETS = {"sm_80": "arch=compute_80,code=sm_80", "sm_90a": "arch=compute_90a,code=sm_90a"}
HOPPER = "_sm90"
# What the machine code of a kernel must hold: matrix units, matrix loads, copies beside the threads.
INSTRUCTIONS = {
    ("gemm_bf16", "sm_80"): ["HMMA.16816.F32.BF16", "LDSM", "LDGSTS"],
    ("gemm_bf16", "sm_90a"): ["HMMA.16816.F32.BF16", "LDSM", "LDGSTS"],
    ("gram_bf16", "sm_80"): ["HMMA.16816.F32.BF16", "LDSM", "LDGSTS"],
    ("gram_bf16", "sm_90a"): ["HMMA.16816.F32.BF16", "LDSM", "LDGSTS"],
    ("gemm_sm90_bf16", "sm_90a"): ["HGMMA", "UTMALDG", "SYNCS", "USETMAXREG"],
    ("attention_bf16_64", "sm_90a"): ["HMMA.16816.F32.BF16", "LDSM", "LDGSTS"],
}
HEADER = """\
# Registers, static shared memory and argument bytes of each kernel, as the pinned nvcc reports them;
# spills and stack are 0 in all. Checked by .ci/run; written by: python3 .ci/kernels.py NVCC_FOLDER --update
# kernel target registers shared arguments
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compile_one(tools, source, target, folder):
    """The resources of each kernel of a file, and the problems seen."""
    cubin = folder / f"{source.stem}.{target}.cubin"
    common = [tools / "nvcc", "-std=c++17", "-I", KERNELS, "-Werror", "all-warnings"]
    report = run(*common, "-gencode", TARGETS[target], "-cubin", "-Xptxas", "-v", source, "-o", cubin)
    ptx = folder / f"{source.stem}.{target}.ptx"
    arch = TARGETS[target].split(",")[0]
    run(*common, "-ptx", f"-{arch}", source, "-o", ptx)
    arguments = dict(re.findall(r"\.param \.align \d+ \.b8 (\w+)_param_0\[(\d+)\]", ptx.read_text()))
    problems = re.findall(r".*warning.*", report)
    kernels = {}
    for part in report.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part).groups()
        )
        if stack or stores or loads:
            problems.append(f"{name} {target}: stack {stack}, spills {stores} + {loads} bytes")
        registers = re.search(r"Used (\d+) registers", part).group(1)
        shared = re.search(r"(\d+) bytes smem", part)
        kernels[name] = (registers, shared.group(1) if shared else "0", arguments.get(name, "?"))
    for name in kernels:
        wanted = INSTRUCTIONS.get((name, target))
        if wanted:
            listing = run(tools / "cuobjdump", "--dump-sass", cubin).split("Function : ")
            code = next(part for part in listing if part.split()[0] == name)
            problems += [f"{name} {target}: no {what} in its code" for what in wanted if what not in code]
    return {(name, target): facts for name, facts in kernels.items()}, problems


def main():
    tools = pathlib.Path(sys.argv[1])
    sources = [*sorted(KERNELS.glob("*.cu")), *sorted(CONFORMANCE.glob("*.cu"))]
    jobs = [(s, t) for s in sources for t in TARGETS if not (s.stem.endswith(HOPPER) and t != "sm_90a")]
    found, problems = {}, []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda job: compile_one(tools, *job, pathlib.Path(folder)), jobs)
        for (source, _), (kernels, wrong) in zip(jobs, done):
            found |= kernels if source.parent == KERNELS else {}
            problems += wrong
    lines = [f"{name} {target} {' '.join(facts)}\n" for (name, target), facts in sorted(found.items())]
    text = HEADER + "".join(lines)
    if "--update" in sys.argv:
        GOLDEN.write_text(text)
    elif GOLDEN.read_text() != text:
        known = set(GOLDEN.read_text().splitlines())
        problems += [f"not in {GOLDEN.name}: {line}" for line in text.splitlines() if line not in known]
        problems += [f"no longer so: {line}" for line in known - set(text.splitlines())]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(found)} kernel images of {len(list(KERNELS.glob('*.cu')))} files: no warnings, no spills, as in RESOURCES.txt")


main()
