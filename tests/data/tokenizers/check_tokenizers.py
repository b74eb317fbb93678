#!/usr/bin/env python3
"""Does Polyhead encode and decode as Hugging Face's tokenizers do, and as fast? On texts of your choice,
the more languages the better; lines of this repository and random strings are added.

    cmake --build build/release --target polyhead data_byte_level_tokenizer_test
    python3 tests/data/tokenizers/check_tokenizers.py build/release TEXT...

A vocabulary is trained on the texts, and 150,000 lines of them are encoded and decoded with it under the
splits of GPT-2, Llama 3 and Qwen 2, as are streams of random tokens, most of which are no UTF-8. Then
`polyhead tokenize`, the reading and writing of files included, runs against `encode` on one thread each.
Exits with 1 where a token differs or Polyhead is slower. Needs tokenizers 0.23.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

import make_tokenizers as make

REPOSITORY = make.FOLDER.parents[2]
LINES, RANDOM_TEXTS, STREAMS = 150_000, 20_000, 5_000
VOCABULARY = 32_000
TIMED_BYTES, DOCUMENT_BYTES = 20_000_000, 20_000
EMOJI = "👍🏽👩‍👩‍👧‍👦🇫🇷❤️🔥1️⃣🏴󠁧󠁢󠁥󠁮󠁧󠁿"


def read(paths):
    return "".join(path.read_bytes().decode(errors="replace") for path in paths)


def sources():
    names = subprocess.run(["git", "ls-files", "*.cpp", "*.cu", "*.py", "*.md", "*.sh"], cwd=REPOSITORY,
                           check=True, capture_output=True, text=True).stdout.split()
    return read(REPOSITORY / name for name in names)


def random_texts(numbers, alphabet):
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\n\n   ", "\u00a0", "\u3000", "\u200d"]

    def text():
        pieces = numbers.choices([alphabet, spaces, list(EMOJI), list("0123456789.,'’!?")],
                                 weights=[6, 2, 1, 2], k=numbers.randint(1, 30))
        return "".join(numbers.choice(piece) for piece in pieces)

    return [text() for _ in range(RANDOM_TEXTS)]


def train(text):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[make.END], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    described = json.loads(tokenizer.to_str())
    described["pre_tokenizer"] = make.byte_level()
    return described


def variants():
    return {"gpt2": {},
            "llama3": dict(pre_tokenizer=make.splits(make.LLAMA3), model=dict(ignore_merges=True)),
            "qwen2": dict(pre_tokenizer=make.splits(make.QWEN2), normalizer=dict(type="NFC"))}


def write_golden(folder, described, texts, numbers):
    (folder / "tokenizer.json").write_text(json.dumps(described))
    size = len(described["model"]["vocab"])
    streams = [[numbers.randrange(size if i % 2 else 257) for _ in range(20)] for i in range(STREAMS)]
    golden = dict(texts=texts, streams=streams, variants=[])
    for name, patch in variants().items():
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(make.patched(described, patch)))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        decoded = {str(i): made for i, text in enumerate(texts)
                   if (made := tokenizer.decode(ids[i])) != text}
        golden["variants"].append(dict(name=name, patch=patch, ids=ids, decoded=decoded,
                                       streams=[tokenizer.decode(stream) for stream in streams]))
    (folder / "golden.json").write_text(json.dumps(golden))


def same_tokens(build, folder):
    test = build / "tests/data/data_byte_level_tokenizer_test"
    ran = subprocess.run([test, "--gtest_filter=*EncodesAndDecodesAsHuggingFace"],
                         env=dict(os.environ, POLYHEAD_TOKENIZER_GOLDENS=str(folder)))
    return ran.returncode == 0


def seconds_of(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def as_fast(build, folder, described, text):
    """The better of two turns of either side."""
    text = text[:TIMED_BYTES]
    documents = [text[i:i + DOCUMENT_BYTES] for i in range(0, len(text), DOCUMENT_BYTES)]
    file = folder / "text.jsonl"
    file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    megabytes = len(text.encode()) / 1e6
    fast = True
    for name, patch in variants().items():
        model = folder / name / "tokenizer.json"
        model.parent.mkdir()
        model.write_text(json.dumps(make.patched(described, patch)))
        command = [build / "scripts/polyhead", "tokenize", file, "--tokenizer", model]
        tokenizer = tokenizers.Tokenizer.from_file(str(model))
        ours, theirs = [], []
        for turn in range(2):
            output = ["--output", folder / name / str(turn)]
            ours.append(seconds_of(lambda: subprocess.run(
                command + output, check=True, stdout=subprocess.DEVNULL,
                env=dict(os.environ, OMP_NUM_THREADS="1"))))
            theirs.append(seconds_of(lambda: [tokenizer.encode(d).ids for d in documents]))
        ratio = min(theirs) / min(ours)
        print(f"{name}: {megabytes / min(ours):.1f} MB/s, tokenizers {megabytes / min(theirs):.1f} MB/s, "
              f"{ratio:.1f} times as fast")
        fast &= ratio >= 1
    return fast


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path, nargs="+", metavar="TEXT")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    numbers = random.Random(1)
    text, code = read(arguments.texts), sources()
    lines = (text + code).splitlines(keepends=True)
    if len(lines) < LINES:
        sys.exit(f"check_tokenizers.py: {len(lines)} lines; name longer texts, {LINES} are wanted")
    chosen = numbers.sample(lines, LINES) + random_texts(numbers, sorted(set(text)))
    described = train(text)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_golden(folder, described, chosen, numbers)
        print(f"{len(chosen)} texts, {STREAMS} streams, a vocabulary of "
              f"{len(described['model']['vocab'])}", flush=True)
        same = same_tokens(build, folder)
        fast = as_fast(build, folder, described, text)
    sys.exit(0 if same and fast else 1)


if __name__ == "__main__":
    main()
