#!/usr/bin/env python3
"""W1, side by side: electrode and another tool's script, interleaved, as ratios.

    benches/w1.py --peer "PYTHON PATH/w1_stats.py --impl hooks" --model DIR --conllu FILE \
        [--words 10000] [--threads 2] [--rounds 5] [--bf16]

Each round runs both once, in turns; the ratio of each round's words per second is kept, so that a
slow minute of the machine hits both. Prints the table and appends it to benches/runs/.
"""
import argparse
import csv
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


def line(command, env):
    out = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(out.stdout.decode().strip().splitlines()[-1])


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--peer", required=True)
    a.add_argument("--model", required=True)
    a.add_argument("--conllu", required=True)
    a.add_argument("--words", default="10000")
    a.add_argument("--threads", default="2")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--bf16", action="store_true", help="both sides")
    a = a.parse_args()
    build = ["cargo", "bench", "--bench", "engine", "--no-run", "--message-format=json"]
    out = subprocess.run(build, cwd=os.path.dirname(HERE), stdout=subprocess.PIPE, check=True).stdout
    found = [json.loads(l) for l in out.decode().splitlines() if l.startswith("{")]
    exe = [m["executable"] for m in found if m.get("target", {}).get("name") == "engine" and m.get("executable")][-1]
    env = dict(os.environ, OMP_NUM_THREADS=a.threads, TOKENIZERS_PARALLELISM="false")
    common = ["--model", a.model, "--conllu", a.conllu, "--words", a.words, "--threads", a.threads]
    rows = []
    for number in range(a.rounds):
        ours = line([exe, "w1", *common, "--repeat", "1"] + ["--bf16"] * a.bf16, env)
        dtype = ["--dtype", "bfloat16" if a.bf16 else "float32"]
        theirs = line(shlex.split(a.peer) + common + dtype + ["--repeat", "1"], env)
        rows.append((ours["words_per_s"], theirs["words_per_s"], ours["cpu_s"], theirs["cpu_s"],
                     ours["neurons"], theirs["neurons"]))
        print("round %d: electrode %8.0f words/s, peer %8.0f words/s, ratio %.2f (CPU time %.2f)"
              % (number, rows[-1][0], rows[-1][1], rows[-1][0] / rows[-1][1], rows[-1][3] / rows[-1][2]))
    ratios = sorted(r[0] / r[1] for r in rows)
    cpu = sorted(r[3] / r[2] for r in rows)
    print("ratio: median %.2f, from %.2f to %.2f; by CPU time %.2f" %
          (statistics.median(ratios), ratios[0], ratios[-1], statistics.median(cpu)))
    cpu_name = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if "model name" in l), platform.machine())
    today = datetime.date.today().isoformat()
    path = os.path.join(HERE, "runs", "%s-cpu.csv" % today)
    new = not os.path.exists(path)
    with open(path, "a", newline="") as f:
        w = csv.writer(f)
        if new:
            w.writerow(["date", "cpu", "workload", "peer", "threads", "words", "ours_words_per_s",
                        "peer_words_per_s", "ratio_median", "ratio_min", "ratio_max", "cpu_time_ratio",
                        "our_neurons", "peer_neurons"])
        w.writerow([today, cpu_name, "w1 bf16" if a.bf16 else "w1", os.path.basename(a.peer.split(" --impl ")[0]) + " " + a.peer.split("--impl ")[-1],
                    a.threads, a.words, round(statistics.median(r[0] for r in rows)),
                    round(statistics.median(r[1] for r in rows)), round(statistics.median(ratios), 3),
                    round(ratios[0], 3), round(ratios[-1], 3), round(statistics.median(cpu), 3),
                    rows[0][4], rows[0][5]])


if __name__ == "__main__":
    main()
