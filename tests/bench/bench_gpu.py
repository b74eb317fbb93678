#!/usr/bin/env python3
"""Times Polyhead beside PyTorch on one GPU, case by case, their rounds taking turns.

    scripts/bench_gpu.sh [--ops | --steps] [--part K/N] [--filter TEXT] [--json FILE] [--list]
    scripts/bench_gpu.sh --merge FILE... [--table FILE]

Both by default. Prints a line a case and appends a JSON line a case to FILE (default
tests/bench/results/DEVICE-DATE.jsonl); a part measures its share of the cases. Merging makes one
Markdown table of several files (default: the first one's name with .md), says what is missing or
failed, and then exits with 1. Build first:

    cmake --preset cuda && cmake --build --preset cuda --target gpu_tests
"""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading

import bench_gpu_results as results

HERE = pathlib.Path(__file__).resolve().parent
STEP_FILES = sorted((HERE / "steps").glob("*.yaml"))
SECONDS_TO_WAIT = {"ops": 240, "steps": 420}
OPS_ROUNDS, STEPS_ROUNDS = 3, 3
# At least 20 in all, and two seconds a round, in which the card's clock settles.
LEAST_STEPS, MORE_STEPS = 7, {"162m": 40}


class Worker:
    """A process that answers each line with a JSON line. One that dies or is silent for too long is
    started again for the next question."""

    def __init__(self, command, greets):
        self.command, self.greets = command, greets
        self.process = self.errors = None
        self.greeting = {}

    def start(self):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        if self.greets:
            greeting = self.read(SECONDS_TO_WAIT["ops"])
            if "unavailable" not in greeting:
                self.greeting = greeting
            return greeting
        return {}

    def ask(self, question, seconds):
        if self.process is None:
            greeting = self.start()
            if "unavailable" in greeting:
                return greeting
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        except OSError:
            return self.ended("ended")
        return self.read(seconds)

    def read(self, seconds):
        silent = threading.Event()

        def give_up(process=self.process):
            silent.set()
            process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        return self.ended(f"was silent for {seconds} s" if silent.is_set() else "ended")

    def ended(self, how):
        status = self.stop()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return {"unavailable": f"the process {how} (status {status}) {last}"[:300].strip()}

    def stop(self):
        if self.process is None:
            return None
        process, self.process = self.process, None
        try:
            process.stdin.close()
        except OSError:
            pass
        process.stdout.close()
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class Ops:
    kind, rounds = "ops", OPS_ROUNDS

    def __init__(self, build):
        self.binary = str(build / "tests/bench/bench_gpu_ops")
        self.worker = Worker([self.binary, "--stdin"], greets=False)

    def names(self):
        return subprocess.run([self.binary, "--list"], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.splitlines()

    def ours(self, name):
        answer = self.worker.ask(name, SECONDS_TO_WAIT["ops"])
        if "error" not in answer:
            return answer
        self.worker.stop()  # the device may answer this process nothing more
        return {"unavailable": answer["error"]}

    def question(self, name):
        return {"case": name}

    def stop(self):
        self.worker.stop()


class Steps:
    kind, rounds = "steps", STEPS_ROUNDS

    def __init__(self, build):
        self.binary = str(build / "tests/bench/bench_gpu_step")
        self.files = {file.stem: str(file) for file in STEP_FILES}

    def names(self):
        return list(self.files)

    def ours(self, name):
        # A process of its own, so that PyTorch has all of the memory in its turn.
        steps = steps_of_round(name)
        worker = Worker([self.binary, self.files[name], f"--steps={steps}"], greets=False)
        worker.start()
        answer = worker.read(SECONDS_TO_WAIT["steps"])
        worker.stop()
        return answer if "unavailable" in answer else {**answer, "iterations": steps}

    def question(self, name):
        return {"case": name, "yaml": self.files[name], "steps": steps_of_round(name)}

    def stop(self):
        pass


def steps_of_round(name):
    return MORE_STEPS.get(name, LEAST_STEPS)


def time_case(side, peer, name):
    """Both sides' rounds: ours, and PyTorch's by back end."""
    ours, pytorch = [], {}
    for _ in range(side.rounds):
        ours.append(side.ours(name))
        answer = peer.ask(json.dumps(side.question(name)), SECONDS_TO_WAIT[side.kind])
        answers = answer["backends"] if "backends" in answer else {"PyTorch": answer}
        for backend, result in answers.items():
            pytorch.setdefault(backend, []).append(result)
    return (results.merged_rounds(ours),
            {backend: results.merged_rounds(rounds) for backend, rounds in pytorch.items()})


def output_of(*command):
    try:
        return subprocess.run(command, check=True, cwd=HERE, capture_output=True,
                              text=True).stdout.strip().split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions(greeting):
    found = {"Polyhead": output_of("git", "describe", "--always", "--dirty"),
             "driver": output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
             "PyTorch": greeting.get("torch"), "CUDA": greeting.get("cuda"),
             "cuDNN": greeting.get("cudnn")}
    return {name: version for name, version in found.items() if version}


def run(options):
    build = options.build.resolve()
    sides = [kind(build) for kind in (Ops, Steps)
             if not (options.ops or options.steps) or getattr(options, kind.kind)]
    for side in sides:
        if not pathlib.Path(side.binary).exists():
            sys.exit(f"bench_gpu.sh: {side.binary} is missing; build it first: cmake --preset cuda && "
                     "cmake --build --preset cuda --target gpu_tests")
    names_of = {side: side.names() for side in sides}
    cases = {name: side for side in sides for name in names_of[side] if options.filter in name}
    part, parts = options.part
    share = results.share_of(list(cases), part, parts)
    if options.list:
        print("\n".join(share))
        return 0

    device = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if not device:
        sys.exit("bench_gpu.sh: nvidia-smi names no device")
    date = datetime.date.today().isoformat()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-").lower()
    path = options.json or HERE / "results" / f"{slug}-{date}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)

    peer = Worker([sys.executable, str(HERE / "bench_gpu_torch.py")], greets=True)
    failed = 0
    for name in share:
        side = cases[name]
        ours, pytorch = time_case(side, peer, name)
        record = {"case": name, "kind": side.kind, "part": f"{part}/{parts}",
                  "cases": len(names_of[side]),
                  "index": names_of[side].index(name), "device": device, "date": date,
                  "versions": versions(peer.greeting), "ours": ours, "pytorch": pytorch}
        failed += "unavailable" in ours
        print(results.line_of(record), flush=True)
        with open(path, "a") as file:
            file.write(json.dumps(record) + "\n")
    peer.stop()
    for side in sides:
        side.stop()
    print(f"{len(share)} cases of part {part}/{parts}, {failed} failed; {path}")
    return 1 if failed else 0


def merge(options):
    by_device = results.read_records(options.merge)
    path = options.table or HERE / "results" / (options.merge[0].stem + ".md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(results.table_of(by_device))
    problems = [f"{device}: {problem}" for device, by_case in by_device.items()
                for problem in results.problems_of(list(by_case.values()))]
    for problem in problems:
        print(f"bench_gpu.sh: {problem}", file=sys.stderr)
    print(path)
    return 1 if problems or not by_device else 0


def part_of(text):
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not match or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} is not K/N with 1 <= K <= N, such as 2/3")
    return int(match[1]), int(match[2])


def main():
    parser = argparse.ArgumentParser(
        prog="bench_gpu.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", action="store_true", help="only the single ops")
    parser.add_argument("--steps", action="store_true", help="only the training steps")
    parser.add_argument("--part", type=part_of, default=(1, 1), metavar="K/N")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only cases with it in their name")
    parser.add_argument("--list", action="store_true", help="print the names of the part's cases")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--build", type=pathlib.Path, default=HERE / "../../build/cuda",
                        metavar="FOLDER")
    parser.add_argument("--merge", type=pathlib.Path, nargs="+", metavar="FILE")
    parser.add_argument("--table", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    sys.exit(merge(options) if options.merge else run(options))


if __name__ == "__main__":
    main()
