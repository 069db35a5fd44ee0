#!/usr/bin/env bash
# The activations of one layer on a treebank, and one method run on them outside a run file.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out
electrode=${ELECTRODE:-target/release/electrode}

"$electrode" extract --model models/tiny-gpt2-en --corpus corpora/examples/treebank.conllu.gz \
    --pool last --sites layers.2.mlp_act --out out/activations.safetensors

# One row per word stands in out/activations.words.parquet; its column `upos` as a JSON
# list is what `rank` reads.
python3 - <<'PYTHON'
import json, pandas
words = pandas.read_parquet("out/activations.words.parquet")
json.dump(words["upos"].fillna("_").tolist(), open("out/upos.json", "w"))
PYTHON

"$electrode" rank --activations out/activations.safetensors:layers.2.mlp_act \
    --labels out/upos.json --method probeless --out out/probeless.json
