"""Records of the GPU benchmark: shares of its cases, lines, and tables of several parts' files."""

import json
import re
import statistics
import sys

# About how long a case takes on an H100, both sides and all rounds, in seconds: for even parts.
SECONDS = [
    ("162m", 120), ("1.13b", 220), ("2.82b", 280), ("mla", 260), ("qwen", 400),
    ("gemm/", 3.5), ("attention/.* window", 20), ("attention/.*/backward", 6), ("attention/", 4),
    ("cross_entropy/", 10), ("", 7),
]
SECTIONS = {"step": "Training steps", "gemm": "GEMM", "attention": "Attention", "rms_norm": "RMSNorm",
            "activation": "Activations", "rope": "RoPE", "cross_entropy": "Cross entropy",
            "adamw": "AdamW", "embedding_backward": "Embedding, backward"}
RATES = {"tflops": "TFLOP/s", "gb_per_s": "GB/s", "tokens_per_second": "tokens/s"}


def seconds_of(case):
    return next(seconds for pattern, seconds in SECONDS if re.match(pattern, case))


def share_of(cases, part, parts):
    """The part's cases (counted from 1), in their order; parts take about the same time."""
    loads, owner = [0.0] * parts, {}
    for case in sorted(cases, key=seconds_of, reverse=True):
        least = loads.index(min(loads))
        loads[least] += seconds_of(case)
        owner[case] = least
    return [case for case in cases if owner[case] == part - 1]


def merged_rounds(rounds):
    """Of one side: the median of the rounds' medians, or why there is none."""
    failed = [r for r in rounds if "unavailable" in r]
    if failed or not rounds:
        return failed[0] if failed else {"unavailable": "no answer"}
    merged = {key: statistics.median(r[key] for r in rounds) for key in RATES if key in rounds[0]}
    merged.update({key: rounds[-1][key] for key in ("micro_batch_size", "peak_gib")
                   if key in rounds[-1]})
    return {"ms": statistics.median(r["ms"] for r in rounds),
            "ms_of_rounds": [r["ms"] for r in rounds],
            "iterations": sum(r["iterations"] for r in rounds), **merged}


def best_ms(record):
    """A back end in parentheses does less than ours and does not count."""
    return min((side["ms"] for backend, side in record["pytorch"].items()
                if "ms" in side and not backend.startswith("(")), default=None)


def ratio_of(record):
    """PyTorch's fastest over ours; None where either is missing."""
    best = best_ms(record)
    return best / record["ours"]["ms"] if best and "ms" in record["ours"] else None


def rate_of(side):
    return next((f"{side[key]:,.0f} {unit}" for key, unit in RATES.items() if key in side), "")


def milliseconds(side):
    if side is None or "ms" not in side:
        return "–"
    text = f"{side['ms']:.4f}" if side["ms"] < 100 else f"{side['ms']:.1f}"
    return text + (f" (batch {side['micro_batch_size']})" if "micro_batch_size" in side else "")


def line_of(record):
    ours = record["ours"]
    parts = [f"{record['case']:<52} ours {milliseconds(ours):>9} ms {rate_of(ours):>15}"
             if "ms" in ours else f"{record['case']:<52} ours failed: {ours['unavailable']}"]
    for backend, side in record["pytorch"].items():
        if "ms" in side and "ms" in ours:
            parts.append(f"{backend} {milliseconds(side)} ms (x {side['ms'] / ours['ms']:.2f})")
        else:
            parts.append(f"{backend} " + (f"{milliseconds(side)} ms" if "ms" in side else
                                          f"unavailable: {side['unavailable'][:60]}"))
    return " | ".join(parts)


def read_records(paths):
    """By device and case; where a case is there twice, the last counts."""
    by_device = {}
    for path in paths:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError as error:
            sys.exit(f"bench_gpu.sh: {path}: {error.strerror}")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                by_case = by_device.setdefault(record["device"], {})
                by_case[record["kind"], record["case"]] = record
            except (ValueError, KeyError, TypeError):
                sys.exit(f"bench_gpu.sh: {path}, line {number}, is no case of this benchmark; --merge "
                         "takes the files that --json names")
    return by_device


def section_of(record):
    return "step" if record["kind"] == "steps" else re.split("[/ ]", record["case"])[0]


def problems_of(records):
    """What is wrong with a device's records, in sentences."""
    problems = [f"{r['case']} failed: {r['ours']['unavailable']}"
                for r in records if "ms" not in r["ours"]]
    for kind in sorted({r["kind"] for r in records}):
        some = [r for r in records if r["kind"] == kind]
        if len(some) < some[-1]["cases"]:
            problems.append(f"{len(some)} of {some[-1]['cases']} {kind} are there")
    return problems


def section_table(title, records):
    backends = list(dict.fromkeys(b for r in records for b in r["pytorch"]))
    heads = ["case", "ours, ms", "", *(f"{b}, ms" for b in backends), "PyTorch's best / ours"]
    lines = [f"## {title}", "", f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for r in records:
        ratio = ratio_of(r)
        cells = [r["case"], milliseconds(r["ours"]), rate_of(r["ours"]),
                 *(milliseconds(r["pytorch"].get(b)) for b in backends),
                 f"{ratio:.2f}" if ratio else "–"]
        lines.append(f"| {' | '.join(cells)} |")
    missing = {}
    for r in records:
        for backend, side in r["pytorch"].items():
            if "unavailable" in side:
                missing.setdefault((backend, side["unavailable"]), []).append(r["case"])
    if missing:
        lines.append("")
        lines += [f"- no {backend} for {', '.join(cases)}: {reason}"
                  for (backend, reason), cases in missing.items()]
    return [*lines, ""]


def table_of(by_device):
    lines = []
    for device, by_case in by_device.items():
        records = sorted(by_case.values(), key=lambda r: r["index"])
        versions = dict.fromkeys(", ".join(f"{name} {version}" for name, version in
                                           r["versions"].items()) for r in records)
        lines += [f"# {device}", "",
                  "Medians; the rounds of both sides take turns. What is in parentheses does less than "
                  "ours: a product without its sum, AdamW without the bf16 copy. "
                  "`scripts/bench_gpu.sh --merge` made this.", ""]
        lines += [f"- {text}" for text in (*versions, *problems_of(records))]
        lines.append("")
        order = list(SECTIONS)
        for section in sorted({section_of(r) for r in records}, key=order.index):
            lines += section_table(SECTIONS[section],
                                   [r for r in records if section_of(r) == section])
    return "\n".join(lines)
