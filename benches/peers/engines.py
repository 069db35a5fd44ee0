#!/usr/bin/env python3
"""The forward pass alone, as fast engines run it: words of a CoNLL-U file to their last hidden states.

    engines.py --engine onednn --model DIR --conllu FILE [--words N] [--threads T] [--dtype bfloat16]

`compare.py` sets electrode's statistics on all neurons beside these, which compute none. Timed are
tokenising, sorting by length, padding and the forward pass; loading, exporting, compiling and a first pass
are not. Before the clock starts, hidden states must be those of torch eager in float32: within 1e-4 (of the
largest, where that is above 1), or in bfloat16 within twice the error of torch eager in bfloat16. Every way an
engine has (sizes of batches, hints) is tried once after a first pass, and the fastest kept.

Prints one JSON line a pass; with --serve one when it is ready, then one for each line read.

  eager     transformers with its own attention choice (sdpa)
  compile   torch.compile with freezing, dynamic shapes
  onednn    every linear layer by oneDNN with its weight packed once; MKL, which torch takes for float32,
            stays with AVX2 on processors of AMD
  onnx      ONNX Runtime, all graph optimisations
  openvino  OpenVINO, latency and throughput hints
"""
import argparse
import json
import os
import statistics
import sys
import time

import numpy as np

ROWS = 2048  # The number of rows packed weights are laid out for.


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--engine", required=True, choices=sorted(ENGINES))
    a.add_argument("--model", required=True, help="folder with config, weights and tokenizer")
    a.add_argument("--conllu", required=True)
    a.add_argument("--words", type=int, default=10000)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    a.add_argument("--batches", default="32,64", help="numbers of sequences to choose from")
    a.add_argument("--longest", type=int, default=512, help="tokens of a sequence")
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--cache", default=".", help="folder of exported models")
    a.add_argument("--serve", action="store_true")
    a = a.parse_args()
    a.batches = [int(size) for size in a.batches.split(",")]
    return a


def sentences(path, limit):
    """Lists of words; ranges of multi-word tokens and empty nodes are no words."""
    kept, words, count = [], [], 0
    for line in open(path, encoding="utf-8"):
        cells = line.split("\t")
        if cells[0].isdigit():
            words.append(cells[1])
        elif not line.strip() and words:
            kept.append(words)
            count += len(words)
            words = []
            if count >= limit:
                break
    return kept


def batches(tokenizer, text, size, longest):
    """Token ids and masks, the longest sequences first, and the number of tokens."""
    ids = tokenizer(text, is_split_into_words=True, truncation=True, max_length=longest)["input_ids"]
    ids.sort(key=len, reverse=True)
    made = []
    for first in range(0, len(ids), size):
        rows = ids[first:first + size]
        tokens = np.zeros((len(rows), len(rows[0])), np.int64)
        mask = np.zeros_like(tokens)
        for row, one in enumerate(rows):
            tokens[row, :len(one)] = one
            mask[row, :len(one)] = 1
        made.append((tokens, mask))
    return made, sum(map(len, ids))


# ------------------------------------------------------------------------------------------------ engines
# Each gives its ways as (name, function): a function takes batches and gives their last hidden states.


def network(a, dtype=None):
    """Token ids and mask to last hidden states, by transformers."""
    import torch
    from transformers import AutoConfig, AutoModel

    encoder = AutoConfig.from_pretrained(a.model).model_type == "bert"
    own = {"add_pooling_layer": False} if encoder else {}
    model = AutoModel.from_pretrained(a.model, **own).to(getattr(torch, dtype or a.dtype)).eval()
    call = {} if encoder else {"use_cache": False}

    class LastHidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **call).last_hidden_state

    return LastHidden().requires_grad_(False)


def by_torch(function):
    import torch

    def run(made):
        with torch.no_grad():
            return [function(torch.from_numpy(ids), torch.from_numpy(mask)) for ids, mask in made]

    return run


def eager(a):
    return [("", by_torch(network(a)))]


def compile_(a):
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return [("", by_torch(torch.compile(network(a), dynamic=True)))]


def onednn(a):
    import torch
    from transformers.pytorch_utils import Conv1D

    class Packed(torch.nn.Module):
        def __init__(self, weight, bias):
            super().__init__()
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
            self.bias = bias

        def forward(self, x):
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    net = network(a)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (torch.nn.Linear, Conv1D)):
                weight = child.weight.t() if isinstance(child, Conv1D) else child.weight
                setattr(module, name, Packed(weight.detach(), child.bias))
    return [("", by_torch(net))]


def onnx(a):
    import onnxruntime as ort

    path = os.path.join(a.cache, os.path.basename(os.path.normpath(a.model)) + ".onnx")
    if not os.path.exists(path):
        export(a, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = a.threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(made):
        return [session.run(None, {"input_ids": ids, "attention_mask": mask})[0] for ids, mask in made]

    return [("", run)]


def export(a, path):
    import torch

    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    os.makedirs(a.cache, exist_ok=True)
    half = path + ".part"
    torch.onnx.export(network(a), (ids, torch.ones_like(ids)), half, dynamo=True, external_data=False,
                      input_names=["input_ids", "attention_mask"], dynamic_shapes=(axes, axes), verbose=False)
    os.replace(half, path)


def openvino(a):
    import openvino as ov
    import torch

    ids = torch.ones(2, 16, dtype=torch.int64)
    model = ov.convert_model(network(a, "float32"), example_input=(ids, torch.ones_like(ids)))
    model.reshape({put.get_any_name(): [-1, -1] for put in model.inputs})
    precision = {"float32": "f32", "bfloat16": "bf16"}[a.dtype]
    ways = []
    for hint in ("LATENCY", "THROUGHPUT"):
        settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision,
                    "INFERENCE_NUM_THREADS": a.threads}
        compiled = ov.Core().compile_model(model, "CPU", settings)
        ways.append((hint.lower(), queued(ov.AsyncInferQueue(compiled))))
    return ways


def queued(queue):
    def run(made):
        kept = [None] * len(made)

        def keep(request, at):
            kept[at] = request.get_output_tensor(0).data.copy()

        queue.set_callback(keep)
        for at, (ids, mask) in enumerate(made):
            queue.start_async([ids, mask], at)
        queue.wait_all()
        return kept

    return run


ENGINES = {"eager": eager, "compile": compile_, "onednn": onednn, "onnx": onnx, "openvino": openvino}


# -------------------------------------------------------------------------------------- check and measure
def numbers(hidden):
    return np.asarray(hidden.float() if hasattr(hidden, "float") else hidden, np.float32)


def difference(hidden, right, made):
    """The largest on tokens that are no padding, where numbers above 1 count by the largest of them."""
    apart, largest = 0.0, 1.0
    for one, good, (_, mask) in zip(hidden, right, made):
        there = mask.astype(bool)
        one, good = numbers(one)[there], numbers(good)[there]
        if not np.isfinite(one).all():
            return float("nan")
        apart, largest = max(apart, float(np.abs(one - good).max())), max(largest, float(np.abs(good).max()))
    return apart / largest


class Bench:
    def __init__(self, a):
        import torch
        from transformers import AutoTokenizer

        torch.set_num_threads(a.threads)
        self.a, self.text = a, sentences(a.conllu, a.words)
        self.tokenizer = AutoTokenizer.from_pretrained(a.model)
        self.ways = ENGINES[a.engine](a)
        self.checked = self.check()
        self.way, self.size = self.fastest()

    def check(self):
        """Every way against torch eager, on the longest, the middle and the shortest batch."""
        a = self.a
        made, _ = batches(self.tokenizer, self.text, min(a.batches), a.longest)
        made = [made[at] for at in sorted({0, len(made) // 2, len(made) - 1})]
        right = by_torch(network(a, "float32"))(made)
        bound = 1e-4
        if a.dtype == "bfloat16":
            bound = 2 * difference(by_torch(network(a))(made), right, made)
        apart = [difference(run(made), right, made) for _, run in self.ways]
        for (name, _), one in zip(self.ways, apart):
            if not one <= bound:
                sys.exit("%s %s is %.1e from torch eager, at most %.1e" % (a.engine, name, one, bound))
        return {"max_difference": max(apart), "bound": bound}

    def fastest(self):
        """The way and size of batch that take the least time, each warmed by a pass of its own."""
        tried = []
        for way in self.ways:
            for size in self.a.batches:
                self.once(way, size)
                tried.append((self.once(way, size)["wall_s"], len(tried), way, size))
        return min(tried)[2:]

    def once(self, way, size):
        wall, cpu = time.perf_counter(), time.process_time()
        made, tokens = batches(self.tokenizer, self.text, size, self.a.longest)
        way[1](made)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall_s": wall, "cpu_s": cpu, "n_tokens": tokens}

    def line(self, passes):
        middle = {key: statistics.median(one[key] for one in passes) for key in ("wall_s", "cpu_s")}
        words, tokens = sum(map(len, self.text)), passes[0]["n_tokens"]
        return dict(
            workload="forward", impl=self.a.engine, dtype=self.a.dtype, threads=self.a.threads, **middle,
            walls=[one["wall_s"] for one in passes], n_words=words, n_tokens=tokens, way=self.way[0],
            batch=self.size, words_per_s=words / middle["wall_s"], tokens_per_s=tokens / middle["wall_s"],
            neurons=0, equals_torch_eager=True, **self.checked)


def main():
    a = arguments()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Engines print to standard output what belongs on the other.
    bench = Bench(a)
    say = lambda line: print(json.dumps(line), file=out, flush=True)
    if not a.serve:
        return say(bench.line([bench.once(bench.way, bench.size) for _ in range(a.repeat)]))
    say({"ready": a.engine})
    for _ in sys.stdin:
        say(bench.line([bench.once(bench.way, bench.size)]))


if __name__ == "__main__":
    main()
