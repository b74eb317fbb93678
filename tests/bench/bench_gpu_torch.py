#!/usr/bin/env python3
"""PyTorch's side of the GPU benchmark: a worker that bench_gpu.py asks.

Its first line says which device and versions it has. Then it reads one JSON object a line and answers
each with one:

    {"case": "rms_norm/forward 32768x768"}            a case of bench_gpu_ops
    {"case": "162m", "yaml": FILE, "steps": 7}        training steps of a configuration
    -> {"case": ..., "backends": {"eager": {"ms": 0.05, "iterations": 200},
                                  "compiled": {"unavailable": "why"}}}

Ops are timed as gpu_bench.h says: random operands, prepared so often that they fill the L2 cache many
times over, events around each iteration, the median.
"""

import gc
import json
import statistics
import sys
import time
import warnings

import torch
import torch._dynamo
import torch._functorch.config

import torch_ops
import torch_steps

ROTATED_BYTES = 512 << 20
MOST_PREPARED = 64
WARM_UPS = 5
TIMED_SECONDS = 0.25
LEAST_ITERATIONS, MOST_ITERATIONS = 20, 200
CYCLES_PER_SECOND = 2e9  # no less than the device's clock
MOST_HEAD_START = 0.5  # seconds


def run_spans(works, iterations, head_start):
    """Milliseconds of each iteration, and the host's seconds for all of them. The device sleeps first,
    so that no iteration waits for the host."""
    spans = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(iterations)]
    torch.cuda.synchronize()
    torch.cuda._sleep(int(CYCLES_PER_SECOND * min(head_start, MOST_HEAD_START)))
    begin_time = time.perf_counter()
    for i, (begin, end) in enumerate(spans):
        begin.record()
        works[i % len(works)]()
        end.record()
    host_seconds = time.perf_counter() - begin_time
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in spans], host_seconds


def time_op(prepare):
    before = torch.cuda.memory_allocated()
    works = [prepare()]
    size = torch.cuda.memory_allocated() - before
    while len(works) * size < ROTATED_BYTES and len(works) < MOST_PREPARED:
        works.append(prepare())
    run_spans(works, max(WARM_UPS, len(works)), 0)
    estimates, host_seconds = run_spans(works, WARM_UPS, 0.01)
    wanted = int(1e3 * TIMED_SECONDS / statistics.median(estimates))
    iterations = min(max(wanted, LEAST_ITERATIONS), MOST_ITERATIONS)
    spans, _ = run_spans(works, iterations, 1.5 * host_seconds / WARM_UPS * iterations)
    return {"ms": statistics.median(spans), "iterations": iterations}


def is_out_of_memory(error):
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def reason_of(error, warned):
    if is_out_of_memory(error):
        return "out of memory"
    parts = [str(error)]
    if "No available kernel" in parts[0]:  # why is in the warnings
        parts += [str(warning.message).split(" (Triggered")[0] for warning in warned]
    return f"{type(error).__name__}: {' '.join(' '.join(parts).split())}"[:300]


class Worker:
    def __init__(self):
        self.case = None
        self.broken = False  # the device answers nothing more

    def begin(self, request):
        self.case = request["case"]
        self.step = None
        self.refused = {}  # why, by back end
        self.prepares = {}  # what a back end's function made, once for all rounds
        # An op's timed backward passes keep the graph of one forward pass.
        torch._functorch.config.donated_buffer = "yaml" in request
        torch._dynamo.reset()  # one function compiled for many shapes would be run uncompiled
        self.free()

    def attempt(self, backend, measure):
        if backend not in self.refused:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try:
                    return measure()
                except Exception as error:  # whatever it is, the other cases go on
                    self.refused[backend] = reason_of(error, warned)
                    self.broken = "CUDA error" in str(error) and not is_out_of_memory(error)
        return {"unavailable": self.refused[backend]}

    def time_backend(self, backend, make):
        if backend not in self.prepares:
            self.prepares[backend] = make()
        return time_op(self.prepares[backend])

    def time_ops(self):
        results = {}
        for backend, make in torch_ops.backends(self.case).items():
            results[backend] = self.attempt(backend, lambda: self.time_backend(backend, make))
            self.free()
            if self.broken:
                break
        return results

    def time_step(self, request):
        if self.step is None:
            self.step = torch_steps.TrainingStep(request["yaml"])
        return self.step.time(request["steps"])

    def answer(self, request):
        if request["case"] != self.case:
            self.begin(request)
        if "yaml" not in request:
            return {"case": self.case, "backends": self.time_ops()}
        result = self.attempt("compiled", lambda: self.time_step(request))
        self.free()
        return {"case": self.case, "backends": {result.pop("backend", "compiled"): result}}

    @staticmethod
    def free():
        gc.collect()
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # of a broken device
            pass


def main():
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no CUDA device")
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    hello = {"device": torch.cuda.get_device_name(), "torch": torch.__version__,
             "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    print(json.dumps(hello), file=answers, flush=True)
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)
        if worker.broken:
            sys.exit(1)


if __name__ == "__main__":
    main()
