"""Shows the five best neurons of every part of speech, from the tables of the quickstart.

    cargo run --release -- run configs/runs/quickstart.toml
    python3 examples/read_rankings.py            # needs pandas and pyarrow
"""

import sys

import pandas

folder = sys.argv[1] if len(sys.argv) > 1 else "out/quickstart"
rankings = pandas.read_parquet(f"{folder}/rankings.parquet")
upos = rankings[(rankings.label == "upos") & (rankings["rank"] <= 5)]
upos = upos.assign(neuron=upos.site + "." + upos.neuron.astype(str))
for (method, concept), best in upos.sort_values("rank").groupby(["method", "concept"]):
    print(f"{method:20} {concept:6} {'  '.join(best.neuron)}")
