"""The rows of `compare.py` as data: workloads, models, peers, aims, sizes, and both sides' commands."""
import collections
import json
import os

Row = collections.namedtuple("Row", "workload model dtype peer aim")
# `kind` is one of SIZES; `folder` is where it lies, or `reason` says why it is not there.
Model = collections.namedtuple("Model", "name kind folder reason")

DTYPES = ("float32", "bfloat16")
# Peer and aim; engines compute no statistics at all.
W1_PEERS = (("hooks", 3), ("neurox", 10))
ENGINES = ("compile", "onednn", "onnx", "openvino")
ENGINE_AIM = 1.25
W2_PEERS = (("neurox", 10), ("torch_many", None))
W2_FORMS = (("W2", 1), ("W2 sweep", 9))
W3_PEERS = (("naive", 10), ("suffix", 3))
W4_PEERS = (("naive", 6), ("suffix", 3))
SHAPES = ("bert", "gpt2", "llama")

# What is asked of a model of each kind: words of W1 (and W2); prompts and neurons of W3; prompts, steps of W4.
Size = collections.namedtuple("Size", "words prompts neurons w4_prompts steps")
SIZES = {
    "encoder": Size(10000, 64, 24, 0, 0),
    "causal": Size(10000, 16, 24, 8, 20),
    "shape": Size(1500, 4, 8, 1, 5),
}
QUICK = {
    "encoder": Size(300, 8, 4, 0, 0),
    "causal": Size(300, 2, 4, 1, 4),
    "shape": Size(150, 1, 1, 1, 1),
}
PROMPT = 128  # Tokens of a prompt of W3 and W4 in language models.
LONGEST = 480  # Tokens of a sequence of W1 where sentences are joined, if the model reads as many.
L1_L2 = "1e-5"

# w1_stats.py leaves sentences of over 100 words out; sequences of joined sentences are longer.
LONG_SENTENCES = (
    "import runpy, sys, common; common.read_words.__defaults__ = (1, 10 ** 6); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
PACKAGES = {"neurox": "neurox", "onnx": "onnxruntime", "openvino": "openvino"}
IMPOSSIBLE = {("onnx", "bfloat16"): "ONNX Runtime multiplies no bfloat16 on the processor"}


def rows(models):
    """All there is, in the order of the table."""
    made = []
    for model in models:
        for peer, aim in W1_PEERS:
            if peer != "neurox" or model.kind == "encoder":
                dtypes = DTYPES if peer != "neurox" else DTYPES[:1]
                made += [Row("W1", model, dtype, peer, aim) for dtype in dtypes]
        made += [Row("W1", model, dtype, peer, ENGINE_AIM) for dtype in DTYPES for peer in ENGINES]
    encoder = models[0]
    made += [Row(form, encoder, "float32", peer, aim) for form, _ in W2_FORMS for peer, aim in W2_PEERS]
    for workload, peers in (("W3", W3_PEERS), ("W4", W4_PEERS)):
        for model in models:
            # W4 asks for the probability of a next token; of encoders, the trained one stands in W3.
            encodes = model.kind == "encoder" or model.name.startswith("bert")
            if encodes and (workload == "W4" or model.kind != "encoder"):
                continue
            made += [Row(workload, model, dtype, peer, aim) for dtype in DTYPES for peer, aim in peers]
    return made


def chosen(row, only):
    """Whether an item of `w1,w3/minilm/suffix` has nothing but words of this row."""
    own = {row.workload.split()[0].lower(), row.model.name.lower(), row.dtype, row.peer}
    own |= {row.workload.lower(), "engines" if row.peer in ENGINES else row.peer}
    return not only or any(set(item.lower().split("/")) <= own for item in only.split(","))


def script(row):
    """The script of the other side, in the folder of the peers."""
    return {"W1": "w1_stats.py", "W2": "w2_probe.py", "W3": "w3_ablate.py", "W4": "w4_ig.py"}[row.workload[:2]]


def is_engine(row):
    return row.workload == "W1" and row.peer in ENGINES


def joined(model):
    """How many tokens sequences of joined sentences have; 0 where sentences stay as they are."""
    if model.kind == "encoder":
        return 0
    with open(os.path.join(model.folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    return min(LONGEST, (config.get("n_positions") or config["max_position_embeddings"]) - 16)


class Commands:
    """Both sides of a row, as lists of words. `inputs` names the files both read."""

    def __init__(self, flags, benches, inputs):
        self.flags, self.benches, self.inputs = flags, benches, inputs
        self.sizes = QUICK if flags.quick else SIZES

    def times(self, row):
        """How often the other side trains in W2, where ours trains all at once."""
        times = dict(W2_FORMS).get(row.workload, 1)
        return min(2, times) if self.flags.quick else times

    def common(self, row):
        return ["--model", row.model.folder, "--threads", str(self.flags.threads)]

    def text(self, row):
        text = self.inputs.text(row.model)
        return ["--conllu", text.path, "--words", str(text.words)]

    def ours(self, row):
        size = self.sizes[row.model.kind]
        half = ["--bf16"] * (row.dtype == "bfloat16")
        common = self.common(row) + ["--repeat", "1"] + half
        if row.workload == "W1":
            return [self.benches["engine"], "w1"] + common + self.text(row)
        if row.workload.startswith("W2"):
            text = self.inputs.text(row.model)
            return [self.benches["probes"]] + common + [
                "--conllu", text.path, "--rows", str(text.words), "--seeds", str(self.times(row))]
        if row.workload == "W3":
            asked = ["--ids", self.inputs.ids(row.model)]
            if row.model.kind != "encoder":
                asked = ["--prompts", str(size.prompts), "--seq-len", str(PROMPT)]
            return [self.benches["stimulate"], "w3"] + common + asked + ["--neurons", str(size.neurons)]
        return [self.benches["stimulate"], "w4"] + common + [
            "--prompts", str(size.w4_prompts), "--seq-len", str(PROMPT), "--steps", str(size.steps)]

    def theirs(self, row):
        flags, size = self.flags, self.sizes[row.model.kind]
        if is_engine(row):
            sizes = "32,64" if row.model.kind == "encoder" else "4,32"
            here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engines.py")
            return [flags.python, here, "--engine", row.peer, "--dtype", row.dtype, "--serve", "--batches", sizes,
                    "--cache", os.path.join(flags.work, row.model.name)] + self.common(row) + self.text(row)
        start = [flags.python, os.path.join(flags.peers, script(row))]
        # Their first run pays for imports and for what torch sets up as it goes.
        common = ["--impl", row.peer, "--dtype", row.dtype, "--warmup", "1"] + self.common(row)
        if row.workload == "W1":
            if joined(row.model):
                start[1:1] = ["-c", LONG_SENTENCES]
            return start + common + self.text(row) + ["--repeat", "1"]
        if row.workload.startswith("W2"):
            return start + common + self.text(row) + [
                "--repeat", str(self.times(row)), "--l1", L1_L2, "--l2", L1_L2]
        common += ["--repeat", "1"]
        if row.workload == "W4":
            return start + common + ["--prompts", str(size.w4_prompts), "--seq-len", str(PROMPT),
                                     "--steps", str(size.steps)]
        asked = ["--sentences", str(size.prompts), "--neurons", str(size.neurons)]
        if row.model.kind == "encoder":
            return start + common + asked + ["--conllu", flags.conllu]
        return start + common + asked + ["--seq-len", str(PROMPT)]
