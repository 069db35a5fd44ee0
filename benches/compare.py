#!/usr/bin/env python3
"""Workloads W1 to W4 of electrode beside its peers, in turns, as one table of ratios.

    benches/compare.py --peers DIR --python PY --model MINILM --conllu FILE [--causal DIR] [--neurox DIR] \\
        [--only w1,w3/suffix] [--rounds 5] [--quick] [--list]

Each round runs electrode and then the peer, so that a slow minute of the machine hits both; the ratio is
that of their times for equal work, and its median and range over the rounds are kept. Rows that were
measured are appended to benches/runs/ (not with --quick, which is for trying). A row whose peer or model
is not there is named with the reason; one whose command fails shows the end of what it said, and the exit
code is 2. What stands in a row: benches/peers/rows.py; what is equal on both sides: docs/measurements.md.
"""
import argparse
import collections
import csv
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "peers"))

import rows as table  # noqa: E402

COLUMNS = ["date", "cpu", "threads", "commit", "electrode", "torch", "transformers", "workload", "model", "dtype",
           "peer", "rounds", "ours_s", "peer_s", "ours_per_s", "peer_per_s", "unit", "ratio", "low", "high",
           "cpu_time_ratio", "aim", "met", "note"]
TAIL = 12  # Lines of a failed command's standard error.
Text = collections.namedtuple("Text", "path words")


class Failed(Exception):
    """A command that did not give its line."""


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--peers", default="", help="folder of w1_stats.py, w2_probe.py, w3_ablate.py and w4_ig.py")
    a.add_argument("--python", default="", help="a Python with torch and transformers; engines as installed")
    a.add_argument("--neurox", default="", help="folder NeuroX is in, where --python does not have it")
    a.add_argument("--model", default="", help="all-MiniLM-L6-v2")
    a.add_argument("--causal", action="append", default=[], help="a trained language model; may be repeated")
    a.add_argument("--conllu", default="", help="training set of UD English EWT")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=0, help="5; 1 with --quick")
    a.add_argument("--only", default="", help="rows by words of them: w1,w3/suffix,w1/gpt2-100m/engines")
    a.add_argument("--quick", action="store_true", help="a few words, one round, nothing recorded")
    a.add_argument("--list", action="store_true", help="the rows, and why any cannot be measured")
    a.add_argument("--work", default=os.path.join(ROOT, "out", "compare"), help="folder of models made here")
    a.add_argument("--runs", default=os.path.join(HERE, "runs"), help="folder of the recorded rows")
    a = a.parse_args()
    a.rounds = a.rounds or (1 if a.quick else 5)
    for name in ("peers", "neurox", "model", "conllu", "work"):
        setattr(a, name, getattr(a, name) and os.path.abspath(getattr(a, name)))
    return a


# -------------------------------------------------------------------------------------------- what is there
def environment(a):
    own = {"OMP_NUM_THREADS": a.threads, "RAYON_NUM_THREADS": a.threads, "HF_HUB_OFFLINE": 1,
           "PYTHONPATH": os.pathsep.join(filter(None, [a.peers, a.neurox])), "PYTHONDONTWRITEBYTECODE": 1}
    return dict(os.environ, **{name: str(value) for name, value in own.items()})


def versions(a):
    """Versions of the peers' packages; those that are not installed are left out."""
    names = ["torch", "transformers"] + sorted(table.PACKAGES.values())
    code = ("import importlib.metadata as m, json, sys\nfound = {}\nfor name in sys.argv[1:]:\n"
            "    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(found))")
    try:
        command = [a.python, "-c", code] + names
        out = subprocess.run(command, env=environment(a), stdout=subprocess.PIPE, check=True)
        return json.loads(out.stdout.decode())
    except (OSError, subprocess.CalledProcessError):
        return {}


def models(a):
    def given(folder, flag):
        there = folder and os.path.exists(os.path.join(folder, "config.json"))
        return "" if there else "no model in %s %s" % (flag, folder or "(not given)")

    def language_model(folder):
        name = os.path.basename(os.path.normpath(folder)) or "causal"
        return table.Model(name, "causal", os.path.join(a.work, name), given(folder, "--causal"))

    twice = collections.Counter(os.path.basename(os.path.normpath(folder)) for folder in a.causal)
    if any(count > 1 for count in twice.values()):
        sys.exit("folders of --causal need names of their own")
    found = [table.Model("MiniLM", "encoder", a.model, given(a.model, "--model"))]
    found += [language_model(folder) for folder in a.causal or [""]]
    for shape in table.SHAPES:
        name = shape + "-100m"
        reason = found[0 if shape == "bert" else 1].reason
        reason = reason and reason + " (its tokenizer)"
        found.append(table.Model(name, "shape", os.path.join(a.work, name), reason))
    return found


def missing(a, row, there):
    """Why a row cannot be measured, or nothing."""
    package = table.PACKAGES.get(row.peer)
    if (row.peer, row.dtype) in table.IMPOSSIBLE:
        return table.IMPOSSIBLE[row.peer, row.dtype]
    if row.model.reason:
        return row.model.reason
    if "torch" not in there or "transformers" not in there:
        return "no torch and transformers in --python %s" % (a.python or "(not given)")
    if package and package not in there:
        return "%s is not installed for --python" % package
    if not os.path.exists(a.conllu):
        return "no file --conllu %s" % (a.conllu or "(not given)")
    for name in (table.script(row), "common.py"):
        if not os.path.exists(os.path.join(a.peers, name)):
            return "no %s in --peers %s" % (name, a.peers or "(not given)")
    return ""


class Inputs:
    """Files that both sides read; those of this run in a folder of their own, models in --work."""

    def __init__(self, a, folder, known):
        self.a, self.folder, self.known, self.texts = a, folder, known, {}
        self.sizes = table.QUICK if a.quick else table.SIZES

    def make(self, what, out, *flags):
        maker = os.path.join(HERE, "peers", "inputs.py")
        run([self.a.python, maker, what, "--peers", self.a.peers, "--out", out, *map(str, flags)], environment(self.a))

    def folder_of(self, model):
        """Makes the model where it is one made here."""
        if model.kind == "encoder" or os.path.exists(os.path.join(model.folder, "config.json")):
            return
        part = model.folder + ".part"
        shutil.rmtree(part, ignore_errors=True)
        if model.kind == "causal":
            folder = next(f for f in self.a.causal if os.path.basename(os.path.normpath(f)) == model.name)
            self.make("spaced", part, "--tokenizer", folder)
        else:
            shape = model.name.split("-")[0]
            reader = self.known[0 if shape == "bert" else 1]
            self.folder_of(reader)
            self.make("model", part, "--shape", shape, "--tokenizer", reader.folder)
        os.replace(part, model.folder)

    def text(self, model):
        if model.name not in self.texts:
            path = os.path.join(self.folder, model.name + ".conllu")
            self.make("text", path, "--model", model.folder, "--conllu", self.a.conllu, "--words",
                      self.sizes[model.kind].words, "--tokens", table.joined(model))
            with open(path, encoding="utf-8") as file:
                words = sum(line[:1].isdigit() for line in file)
            self.texts[model.name] = Text(path, words)
        return self.texts[model.name]

    def ids(self, model):
        path = os.path.join(self.folder, model.name + "-ids.json")
        if not os.path.exists(path):
            self.make("ids", path, "--model", model.folder, "--conllu", self.a.conllu, "--sentences",
                      self.sizes[model.kind].prompts)
        return path


# -------------------------------------------------------------------------------------------------- running
def tail(text):
    return "\n".join("    " + line[:300] for line in text.strip().splitlines()[-TAIL:])


def run(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed("%s ended with %d:\n%s" % (
            " ".join(command), done.returncode, tail(done.stderr.decode(errors="replace"))))
    return done.stdout.decode()


class Once:
    """A side that is a process for each round."""

    def __init__(self, command, env):
        self.command, self.env = command, env

    def line(self):
        out = run(self.command, self.env).strip().splitlines()
        if not out:
            raise Failed("%s printed nothing" % " ".join(self.command))
        return json.loads(out[-1])

    def close(self):
        pass


class Served:
    """A side that loads, compiles and warms up once, and runs when it is told to."""

    def __init__(self, command, env):
        self.command, self.said = command, tempfile.TemporaryFile()
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=self.said)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            said = tail(self.said.read().decode(errors="replace"))
            raise Failed("%s ended with %d:\n%s" % (" ".join(self.command), self.process.returncode, said))
        return json.loads(line.decode())

    def line(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.said.close()


def benches():
    """The benches of this tree, built."""
    names = ("engine", "probes", "stimulate")
    build = ["cargo", "bench", "--no-run", "--message-format=json"] + [w for n in names for w in ("--bench", n)]
    out = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    said = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: m["executable"] for m in said
            if m.get("executable") and m["target"]["name"] in names}


def measure(a, row, commands):
    """Both sides' JSON lines, round by round."""
    commands.inputs.folder_of(row.model)
    env = environment(a)
    ours = Once(commands.ours(row), env)
    theirs = (Served if table.is_engine(row) else Once)(commands.theirs(row), env)
    rounds = []
    try:
        for number in range(a.rounds):
            # Between the two, threads that wait in a spin come to rest.
            time.sleep(0.5)
            one = dict(ours.line(), load=os.getloadavg()[0])
            time.sleep(0.5)
            rounds.append((one, theirs.line()))
            print("  round %d: %.3f s, peer %.3f s" % (number + 1, *map(seconds, rounds[-1])), file=sys.stderr)
    finally:
        theirs.close()
    return rounds


def seconds(line):
    """Of all the work: W2's peers train as often as they repeat."""
    return sum(line["walls"]) if line["workload"] == "W2" else line["wall_s"]


def unequal(ours, theirs):
    """In what the two did not do the same work."""
    for name in ("n_words", "n_tokens"):
        a, b = ours.get(name), theirs.get(name)
        if a and b and abs(a - b) > 0.002 * a:
            return "unequal work: %s %d, peer %d" % (name, a, b)
    return ""


def result(row, rounds):
    ours, theirs = ([seconds(both[side]) for both in rounds] for side in (0, 1))
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    first, last = rounds[0]
    work, unit = (first["n_words"], "words/s") if row.workload == "W1" else (1, "1/s")
    cpu = [both[1]["cpu_s"] / both[0]["cpu_s"] for both in rounds if both[0].get("cpu_s") and "cpu_s" in both[1]]
    mine, other, ratio = map(statistics.median, (ours, theirs, ratios))
    wrong = unequal(first, last)
    # The two sides themselves keep about as many threads running as they have.
    load = max(both[0]["load"] for both in rounds)
    busy = "busy machine, load %.0f" % load if load > first["threads"] + 1 else ""
    notes = [wrong, busy, last.get("note"), " ".join(filter(None, [last.get("way"), "batch %s" % last["batch"]]))
             if "batch" in last else ""]
    return dict(workload=row.workload, model=row.model.name, dtype=row.dtype, peer=row.peer, rounds=len(rounds),
                ours_s="%.4f" % mine, peer_s="%.4f" % other, ours_per_s="%.4g" % (work / mine),
                peer_per_s="%.4g" % (work / other), unit=unit, ratio="%.2f" % ratio, low="%.2f" % ratios[0],
                high="%.2f" % ratios[-1], cpu_time_ratio="%.2f" % statistics.median(cpu) if cpu else "",
                aim=row.aim or "", met="" if not row.aim else "yes" if ratio >= row.aim and not wrong else "no",
                note="; ".join(filter(None, notes)))


# ------------------------------------------------------------------------------------------------ reporting
def origin(a, there):
    """Where, when and of what these rows are."""
    def said(*command):
        out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return out.stdout.decode().strip()

    with open(os.path.join(ROOT, "Cargo.toml"), encoding="utf-8") as file:
        version = next(line.split('"')[1] for line in file if line.startswith("version = "))
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    changed = "+" if said("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benches/runs") else ""
    return dict(date=datetime.date.today().isoformat(), cpu=cpu, threads=a.threads, electrode=version,
                commit=said("git", "rev-parse", "--short", "HEAD") + changed, torch=there.get("torch", ""),
                transformers=there.get("transformers", ""))


def record(folder, line):
    """Appends to the day's file; files of other columns stay as they are."""
    for number in range(1, 100):
        path = os.path.join(folder, "%s-cpu%s.csv" % (line["date"], "-%d" % number if number > 1 else ""))
        if not os.path.exists(path):
            break
        with open(path, newline="", encoding="utf-8") as file:
            if next(csv.reader(file), None) == COLUMNS:
                break
    new = not os.path.exists(path)
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(line)


def show(lines):
    names = ["workload", "model", "dtype", "peer", "ours_s", "peer_s", "ratio", "low", "high", "aim", "met", "note"]
    cells = [names] + [[str(line.get(name, "")) for name in names] for line in lines]
    widths = [max(len(row[at]) for row in cells) for at in range(len(names) - 1)]
    for row in cells:
        print("  ".join([cell.ljust(width) for cell, width in zip(row, widths)] + row[-1:]).rstrip())


def mark_fastest(asked, lines):
    """Says which of the engines is the fastest, for each model and precision."""
    groups = collections.defaultdict(list)
    for row, line in zip(asked, lines):
        if table.is_engine(row) and "ratio" in line:
            groups[row.model, row.dtype].append(line)
    for group in groups.values():
        fastest = min(group, key=lambda line: float(line["ratio"]))
        fastest["note"] = "; ".join(filter(None, ["the fastest engine", fastest["note"]]))


def name_of(row):
    return dict(workload=row.workload, model=row.model.name, dtype=row.dtype, peer=row.peer, aim=row.aim or "")


def main():
    a = arguments()
    there = versions(a)
    known = models(a)
    asked = [row for row in table.rows(known) if table.chosen(row, a.only)]
    if not asked:
        sys.exit("no row has --only %s" % a.only)
    reasons = {row: missing(a, row, there) for row in asked}
    lines = [dict(name_of(row), note=reasons[row] and "skipped: " + reasons[row]) for row in asked]
    if a.list:
        return show(lines)
    os.makedirs(a.work, exist_ok=True)
    built = benches() if not all(reasons.values()) else {}
    about, failed = origin(a, there), False
    with tempfile.TemporaryDirectory() as folder:
        commands = table.Commands(a, built, Inputs(a, folder, known))
        for at, row in enumerate(asked):
            if reasons[row]:
                continue
            print("%s %s %s beside %s (%d of %d)" % (*row[:1], row.model.name, row.dtype, row.peer, at + 1,
                                                     len(asked)), file=sys.stderr)
            try:
                lines[at] = result(row, measure(a, row, commands))
                if not a.quick:
                    record(a.runs, dict(about, **lines[at]))
            except Failed as error:
                print("  failed: %s" % error, file=sys.stderr)
                failed, lines[at]["note"] = True, "failed: " + str(error).splitlines()[-1].strip()
    print(" ".join("%s %s" % pair for pair in about.items()))
    mark_fastest(asked, lines)
    show(lines)
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()
