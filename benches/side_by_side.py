#!/usr/bin/env python3
"""Two commands in turns, as ratios: each prints a JSON line with "wall_s" last.

    benches/side_by_side.py "OURS" "THEIRS" [--rounds 5] [--name w4]

A slow minute of the machine hits both. Prints the rounds and appends the median ratio with its spread to
benches/runs/.
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


def wall(command):
    out = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(json.loads(out.stdout.decode().strip().splitlines()[-1])["wall_s"])


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("ours")
    a.add_argument("theirs")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--name", required=True)
    a = a.parse_args()
    rounds = []
    for number in range(a.rounds):
        ours, theirs = wall(a.ours), wall(a.theirs)
        rounds.append((ours, theirs, theirs / ours))
        print("round %d: electrode %.3f s, peer %.3f s, ratio %.2f" % (number, ours, theirs, theirs / ours))
    ratios = sorted(r[2] for r in rounds)
    print("ratio: median %.2f, from %.2f to %.2f" % (statistics.median(ratios), ratios[0], ratios[-1]))
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if "model name" in l), platform.machine())
    today = datetime.date.today().isoformat()
    path = os.path.join(HERE, "runs", "%s-side-by-side.csv" % today)
    new = not os.path.exists(path)
    with open(path, "a", newline="") as f:
        w = csv.writer(f)
        if new:
            w.writerow(["date", "cpu", "name", "electrode_s", "peer_s", "ratio", "low", "high"])
        w.writerow([today, cpu, a.name, "%.4f" % statistics.median(r[0] for r in rounds),
                    "%.4f" % statistics.median(r[1] for r in rounds), "%.2f" % statistics.median(ratios),
                    "%.2f" % ratios[0], "%.2f" % ratios[-1]])


if __name__ == "__main__":
    main()
