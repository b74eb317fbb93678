#!/usr/bin/env python3
"""Training step of Polyhead beside the same model in PyTorch, on the CPU, in one run.

    python3 tests/bench/bench_step.py build/release/tests/bench/bench_step [--threads 2] [--rounds 5]

Both sides use the same shapes, f32, the same number of threads, random tokens and AdamW; PyTorch runs
eager. Rounds alternate, so that a slow minute of the machine hits both; medians are reported. Prints
a JSON line a case and a Markdown table. Exits with 1 where Polyhead is slower than LEAST says.
PyTorch: apt-get install python3-torch, or pip install torch.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SHAPES = {
    "small": dict(hidden=128, layers=4, heads=8, ffn=352, vocabulary=4096, batch=8, length=256),
    "124m": dict(hidden=768, layers=12, heads=12, ffn=2048, vocabulary=50304, batch=4, length=256),
}
# Tokens/s over PyTorch's, and the share of the 1024^3 sgemm's rate, that a step must reach.
LEAST = {
    "small": dict(ratio=2.5, sgemm_share=0.4),
    "124m": dict(ratio=1.5, sgemm_share=0.6),
}
EPSILON = 1e-5


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


class Block(nn.Module):
    def __init__(self, hidden, heads, ffn):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.Parameter(torch.ones(hidden))
        self.norm2 = nn.Parameter(torch.ones(hidden))
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def attention(self, x, cos, sin, mask):
        batch, length, hidden = x.shape
        shape = (batch, length, 3, self.heads, hidden // self.heads)
        q, k, v = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)

        def rotate(t):
            a, b = t.chunk(2, -1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

        q, k = rotate(q), rotate(k)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(hidden // self.heads) + mask
            y = torch.softmax(scores, -1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, hidden))

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(rms_norm(x, self.norm1), cos, sin, mask)
        gate, up = self.gate_up(rms_norm(x, self.norm2)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, hidden, layers, heads, ffn, vocabulary, length, **_):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList([Block(hidden, heads, ffn) for _ in range(layers)])
        self.norm = nn.Parameter(torch.ones(hidden))
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        dim = hidden // heads
        angles = torch.outer(torch.arange(length).float(), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.cos, self.sin = angles.cos(), angles.sin()
        self.mask = torch.full((length, length), float("-inf")).triu(1)

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin, self.mask)
        logits = self.head(rms_norm(x, self.norm))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


class PyTorchStep:
    def __init__(self, shape):
        torch.manual_seed(0)
        self.model = Model(**shape)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        size = (shape["batch"], shape["length"])
        self.tokens = torch.randint(shape["vocabulary"], size)
        self.targets = torch.randint(shape["vocabulary"], size)
        self.run()

    def run(self):
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        self.model(self.tokens, self.targets).backward()
        self.optimizer.step()
        return self.tokens.numel() / (time.perf_counter() - begin)


def polyhead_round(binary, shape, steps, threads):
    arguments = [f"--{key}={value}" for key, value in shape.items()]
    output = subprocess.run(
        [binary, *arguments, f"--steps={steps}"],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    rows = []
    for name in options.shapes:
        shape = SHAPES[name]
        peer = PyTorchStep(shape)
        steps = 10 if name == "small" else 2
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(polyhead_round(options.binary, shape, steps, options.threads))
            theirs.append(statistics.median(peer.run() for _ in range(max(1, steps // 2))))
        median = {key: statistics.median(run[key] for run in ours) for key in ours[0]}
        row = dict(case=name, threads=options.threads, pytorch=torch.__version__, **median,
                   pytorch_tokens_per_second=statistics.median(theirs))
        row["ratio"] = row["tokens_per_second"] / row["pytorch_tokens_per_second"]
        row["sgemm_share"] = row["gflops"] / row["sgemm_gflops"]
        rows.append(row)
        print(json.dumps(row), flush=True)

    print("\n| model | Polyhead tokens/s | PyTorch tokens/s | ratio | GFLOP/s | sgemm 1024^3 GFLOP/s |"
          " share | GEMM | attention |\n|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['case']} | {row['tokens_per_second']:,.0f} "
              f"| {row['pytorch_tokens_per_second']:,.0f} | {row['ratio']:.2f} "
              f"| {row['gflops']:.0f} | {row['sgemm_gflops']:.0f} "
              f"| {100 * row['sgemm_share']:.0f} % "
              f"| {100 * row['matmul_share']:.0f} % | {100 * row['attention_share']:.0f} % |")

    slow = [f"{row['case']}: {key} is {row[key]:.2f}, not {least}"
            for row in rows for key, least in LEAST[row["case"]].items() if row[key] < least]
    if slow:
        sys.exit("\ntoo slow: " + "; ".join(slow))


if __name__ == "__main__":
    main()
