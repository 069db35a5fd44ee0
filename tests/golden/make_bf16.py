#!/usr/bin/env python3
"""How far PyTorch's own bfloat16 run lies from the float32 fixtures: the measure of ours.

    make_bf16.py FIXTURES > bf16.json

For every model folder of make_forward.py: the same weights rounded to bfloat16, eager attention, CPU;
for every tensor and every gradient ||bf16 - expected|| / ||expected|| over real tokens. Needs what
make_forward.py needs.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import make_forward as F


def run(d):
    spec, _ = F.spec_from_disk(d)
    exp = load_file(d / "expected.safetensors")
    batch = {k: exp[k] for k in ("input_ids", "attention_mask", "token_type_ids", "position_ids") if k in exp}
    kind = F.model_class(spec)
    model = kind.from_pretrained(d, attn_implementation="eager", dtype=torch.bfloat16).eval()
    got = F.run(model, spec, batch, exp.get("labels"), exp.get("probe"))
    del got["loss"]
    got = F.blank_pads(got, batch)
    errors = {}
    for k, v in sorted(got.items()):
        if k in exp and v.is_floating_point():
            want = exp[k].double()
            errors[k] = float((v.double() - want).norm() / want.norm().clamp_min(1e-300))
    return errors


def main():
    root = Path(sys.argv[1])
    folders = sorted(p.parent for p in root.glob("*/expected.safetensors") if (p.parent / "config.json").is_file())
    found = {d.name: {k: float(f"{e:.3e}") for k, e in run(d).items()} for d in folders if d.name != "minilm-ewt"}
    json.dump({"torch": torch.__version__, "errors": found}, sys.stdout, separators=(",", ":"))


main()
