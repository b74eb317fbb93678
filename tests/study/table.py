#!/usr/bin/env python3
"""Makes the tables of the conversion study, in Markdown, of the results that study.sh left.

  tests/study/table.py [--partial] RESULTS...

RESULTS is the results/ of study.sh's folder; several that were made with --variants are joined, if their
parents agree. Without --partial every task must have finished.
Checkpoints are named as in study.sh: mha, gqa-GROUPS-METHOD, mla-RANK.
"""

import argparse
import json
import math
import pathlib
import sys

STAGES = (0, 1, 2, 5, 10)  # per cent of the parent's steps
PARENT = "mha"
METHODS = ("mean", "first", "aligned-renorm")
NONE = "–"


def fail(message):
    sys.exit(f"table.py: {message}")


def read_times(path):
    """Seconds by task, all its parts together, and the tasks that finished."""
    seconds, finished = {}, set()
    for line in path.read_text().splitlines():
        task, took, how = line.split("\t")
        seconds[task] = seconds.get(task, 0) + int(took)
        if how == "finished":
            finished.add(task)
    return seconds, finished


class Stage:
    """One evaluation: the checkpoints, and their differences from the first, by variant."""

    def __init__(self, path):
        document = json.loads(path.read_text())
        name = lambda checkpoint: pathlib.PurePath(checkpoint).name
        self.checkpoints = {name(c["checkpoint"]): c for c in document["checkpoints"]}
        self.differences = {name(c["checkpoint"]): c for c in document["comparisons"]}
        if next(iter(self.checkpoints)) != PARENT:
            fail(f"{path}: the first checkpoint is not {PARENT}; make the file again with study.sh")

    def bits(self, variant):
        return self.checkpoints[variant]["bits_per_byte"]

    def join(self, other):
        """Adds the checkpoints of a study with the same parent; says whether it is the same."""
        if self.checkpoints[PARENT]["documents"] != other.checkpoints[PARENT]["documents"]:
            return False
        self.checkpoints |= other.checkpoints
        self.differences |= other.differences
        return True


def label(variant):
    kind, _, rest = variant.partition("-")
    if kind == "mla":
        return f"latent, rank {rest}"
    if kind == PARENT:
        return "the parent, continued"
    groups, _, method = rest.partition("-")
    return f"{groups} group{'' if groups == '1' else 's'}, {method}"


def place(variant):
    """Where it stands in the tables."""
    kind, size, *method = variant.split("-", 2)
    return kind, METHODS.index(method[0]) if method else 0, -int(size)


def percent_more(nats):
    percent = 100 * math.expm1(nats)
    return f"{percent:.1f}" if abs(percent) < 100 else f"{percent:.0f}"


def table(heading, rows):
    """The first column is text, the others are numbers."""
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1)] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


STAGE_COLUMNS = [f"{stage} %" for stage in STAGES]


def cells(stages, variant, cell):
    """A cell a stage; without a figure where that was not evaluated."""
    return [
        cell(stages[stage]) if stage in stages and variant in stages[stage].checkpoints else NONE
        for stage in STAGES
    ]


def difference(stage, variant):
    """Perplexity over that of the parent, with the interval."""
    d = stage.differences[variant]
    if d["difference"] is None:
        return ""
    interval = "" if d["low"] is None else f": {percent_more(d['low'])} to {percent_more(d['high'])}"
    return f" ({percent_more(d['difference'])} %{interval})"


def perplexities(stages, variants, cache):
    def cell(variant):
        return lambda stage: (
            f"{stage.checkpoints[variant]['byte_perplexity']:.3f}"
            + ("" if variant == PARENT else difference(stage, variant))
        )

    rows = [[label(v), cache.get(v, NONE)] + cells(stages, v, cell(v)) for v in variants]
    return table(["attention", "KV bytes/token"] + STAGE_COLUMNS, rows)


def recovered(stages, variant, stage):
    """The part of the bits that conversion cost that uptraining, of the parent too, brought back."""
    if any(s not in stages or variant not in stages[s].checkpoints for s in (0, stage)):
        return NONE
    cost, left = (stages[s].bits(variant) - stages[s].bits(PARENT) for s in (0, stage))
    return f"{100 * (1 - left / cost):.0f} %" if cost > 0 else NONE


def recoveries(stages, variants):
    rows = [[label(v)] + [recovered(stages, v, stage) for stage in STAGES[1:]] for v in variants]
    return table(["recovered"] + STAGE_COLUMNS[1:], rows)


def times_by_task(seconds, variants):
    def cell(task):
        return str(seconds[task]) if task in seconds else NONE

    rows = [["multi-head parent", cell("parent"), NONE, NONE]]
    for v in variants:
        rows.append([label(v), cell(f"convert.{v}"), cell(f"uptrain.{v}.2"), cell(f"uptrain.{v}.10")])
    evaluations = ", ".join(f"{cell(f'evaluate.{stage}')} s" for stage in STAGES)
    return (
        table(["seconds", "train or convert", "uptrain to 2 %", "from 2 to 10 %"], rows)
        + f"\nEvaluations of all checkpoints at {', '.join(map(str, STAGES))} %: {evaluations}."
        + f" All tasks together: {sum(seconds.values())} s.\n"
    )


class Study:
    """What one results/ holds."""

    def __init__(self, folder, partial):
        for name in ("plan.txt", "times.tsv"):
            if not (folder / name).is_file():
                fail(f"{folder} has no {name}; name the results/ of study.sh's folder")
        plan = (folder / "plan.txt").read_text().split()
        self.seconds, finished = read_times(folder / "times.tsv")
        missing = [task for task in plan if task not in finished]
        if missing and not partial:
            fail(f"{len(missing)} of {len(plan)} tasks have not finished: {', '.join(missing)}; "
                 "start study.sh again, or give --partial")
        self.folder = folder
        self.converted = [t.partition(".")[2] for t in plan if t.startswith("convert.")]
        self.stages = {}
        for stage in STAGES:
            path = folder / f"stage_{stage}.json"
            if f"evaluate.{stage}" in finished:
                if not path.is_file():
                    fail(f"{path} is missing; copy all of study.sh's results/")
                self.stages[stage] = Stage(path)

    def join(self, other):
        self.converted = sorted({*self.converted, *other.converted}, key=place)
        for task, seconds in other.seconds.items():
            self.seconds[task] = self.seconds.get(task, 0) + seconds
        for stage, evaluated in other.stages.items():
            if stage not in self.stages:
                self.stages[stage] = evaluated
            elif not self.stages[stage].join(evaluated):
                fail(f"the parents of {self.folder} and {other.folder} differ at {stage} %; give "
                     "study.sh --products and the same polyhead for the second one")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=pathlib.Path, nargs="+",
                        help="the results/ of study.sh's folder")
    parser.add_argument("--partial", action="store_true", help="what is there; – for the rest")
    arguments = parser.parse_args()
    study, *others = (Study(folder, arguments.partial) for folder in arguments.results)
    for other in others:
        study.join(other)
    stages, seconds, converted = study.stages, study.seconds, study.converted
    variants = [PARENT] + converted

    cache = {
        variant: str(checkpoint["kv_cache_bytes_per_token"])
        for stage in stages.values()
        for variant, checkpoint in stage.checkpoints.items()
    }

    print("Byte perplexity of the held-out text, right after conversion (0 %) and after uptraining for a")
    print("share of the parent's steps; in parentheses by how much it exceeds that of the parent continued")
    print("for the same steps, with the 95 % interval.\n")
    print(perplexities(stages, variants, cache))
    print("The part that uptraining brought back of the bits per byte by which conversion fell behind.\n")
    print(recoveries(stages, converted))
    print("What it took, starts and saves included; tasks that share a device hold each other up.\n")
    print(times_by_task(seconds, variants), end="")


if __name__ == "__main__":
    main()
