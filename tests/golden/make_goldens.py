#!/usr/bin/env python3
"""Golden models: tiny random ones of every Hugging Face family, with the numbers that transformers
computes on them.

    python3 tests/golden/make_goldens.py [NAME ...] [--out FOLDER]   # all, or those named
    python3 tests/golden/make_goldens.py --check FOLDER ...          # do the folders still hold?
    python3 tests/golden/make_goldens.py --add FOLDER ...            # numbers for models of your own

README.md beside this file says what a folder holds, families.py has the models, reference.py computes.
Needs numpy, PyTorch, safetensors and transformers. On one machine with the same versions two runs
write the same bytes.
"""

import argparse
import json
import math
import pathlib
import platform
import shutil
import sys
import zlib

import numpy
import safetensors
import safetensors.torch
import torch
import transformers

import families
import reference

BATCH, LENGTH = 2, 41
STREAM_TOKENS, TRAIN_STEPS, PROMPT_TOKENS = 1000, 20, 7
# Where the two best logits lie closer, another implementation's rounding may choose the other token.
LEAST_MARGIN = 1e-3
LEAST_DISTINCT = 10
MOST_BYTES = 1_000_000
# Gradients and training gather more rounding than a forward pass: times the tolerance.
ALLOWANCES = dict(logits=1, loss=1, strided_ppl=1, hf_strided_ppl=1, gradients=10, losses=10,
                  grad_norms=10)


def random_numbers(*names):
    """numpy's RandomState is frozen: the same numbers in every version, on every machine."""
    return numpy.random.RandomState(zlib.crc32("/".join(names).encode()))


@torch.no_grad()
def fill(model, name):
    """Matrices keep the variance of what they multiply, so that attention and the soft-caps have
    something to act on; norms' weights and biases scatter around their neutral value."""
    for parameter_name, parameter in model.named_parameters():
        random = random_numbers(name, parameter_name)
        noise = torch.tensor(random.standard_normal(tuple(parameter.shape)), dtype=torch.float32)
        if parameter.dim() == 1:
            parameter += 0.25 * noise
        else:
            parameter.copy_(noise / math.sqrt(min(parameter.shape)))
    model.get_input_embeddings().weight *= families.EMBEDDING_GAIN.get(name, 1.0)


class Language:
    """Tokens that can be learned: each has four successors, of unequal probability."""

    def __init__(self, vocab_size, random):
        self.random = random
        self.successors = random.randint(vocab_size, size=(vocab_size, 4))

    def text(self, length):
        tokens = [self.random.randint(len(self.successors))]
        while len(tokens) < length:
            choice = self.random.choice(4, p=[0.5, 0.3, 0.15, 0.05])
            tokens.append(int(self.successors[tokens[-1], choice]))
        return tokens

    def texts(self, *shape):
        count, length = math.prod(shape[:-1]), shape[-1]
        return torch.tensor([self.text(length) for _ in range(count)]).reshape(shape)


def draw_prompt(model, language):
    """A prompt without close calls, whose continuation does not run in a small circle, nor into the
    end token: whether one stops there makes no difference."""
    for _ in range(1000):
        prompt = language.text(PROMPT_TOKENS)
        tokens, margin = reference.greedy(model, prompt)
        if (margin >= LEAST_MARGIN and len(set(tokens)) >= LEAST_DISTINCT
                and model.config.eos_token_id not in tokens):
            return prompt
    raise SystemExit(f"{model.config.model_type}: no prompt has a continuation to compare")


def put_in_the_words_of_4(path, besides):
    """The same configuration with the keys that transformers 4 wrote, and what real files hold
    besides."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    for key in ("layer_types", "transformers_version"):
        config.pop(key, None)
    config |= besides
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_model(name, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_config(families.FAMILIES[name]())
    fill(model, name)
    model.save_pretrained(folder, max_shard_size="90KB" if name in families.SHARDED else "1GB")
    if name in families.IN_THE_WORDS_OF_4:
        put_in_the_words_of_4(folder / "config.json", families.IN_THE_WORDS_OF_4[name])


def load_model(folder):
    """Refuses what transformers would only warn of."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True,
        local_files_only=True)
    wrong = {key: value for key, value in report.items() if value}
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def versions():
    return dict(python=platform.python_version(), numpy=numpy.__version__, torch=torch.__version__,
                safetensors=safetensors.__version__, transformers=transformers.__version__)


def add_numbers(folder):
    model = load_model(folder)
    language = Language(model.config.vocab_size, random_numbers(folder.name, "language"))
    text = language.texts(BATCH, LENGTH + 1)
    tokens = dict(input_ids=text[:, :-1].contiguous(), targets=text[:, 1:].contiguous(),
                  stream=language.texts(STREAM_TOKENS),
                  train_tokens=language.texts(TRAIN_STEPS, BATCH, LENGTH + 1))
    tensors, figures = reference.numbers(model, tokens, draw_prompt(model, language))
    safetensors.torch.save_file(tensors, folder / "golden.safetensors", metadata={"format": "pt"})
    described = json.dumps(dict(versions=versions(), **figures), indent=1)
    (folder / "golden.json").write_text(described + "\n")
    training = figures["train"]
    clipped = sum(norm > training["clip"] for norm in training["grad_norms"])
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder.name}: {size} bytes, loss {figures['loss']:.4f}, "
          f"margin {figures['greedy_margin']:.4f}, {clipped} of {TRAIN_STEPS} steps clipped")
    return size


def make(name, folder):
    save_model(name, folder)
    size = add_numbers(folder)
    if size > MOST_BYTES:
        raise SystemExit(f"{folder}: {size} bytes are more than {MOST_BYTES}")


def difference(a, b, least=0.0):
    """The largest, relative to the largest of b, or to `least` if that is larger."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return ((a - b).abs().max() / max(b.abs().max().item(), least)).item()


def gradient_difference(tensors, golden):
    """That of the worst parameter; one without a gradient to speak of is measured by the others'."""
    gradients = {name: tensor for name, tensor in golden.items() if name.startswith("grad.")}
    least = 1e-3 * max(tensor.abs().max().item() for tensor in gradients.values())
    return max(difference(tensors[name], tensor, least) for name, tensor in gradients.items())


def check(folder, tolerance):
    """Computes all numbers again from the folder's files. True if they agree."""
    stored = json.loads((folder / "golden.json").read_text())
    golden = safetensors.torch.load_file(folder / "golden.safetensors")
    tokens = {name: golden[name] for name in ("input_ids", "targets", "stream", "train_tokens")}
    tensors, figures = reference.numbers(load_model(folder), tokens, stored["prompt"],
                                         stored["train"]["clip"])
    if shapes(tensors) != shapes(golden):
        raise SystemExit(f"{folder}: golden.safetensors has other tensors than the model's")
    differences = dict(logits=difference(tensors["logits"], golden["logits"]),
                       loss=difference(figures["loss"], stored["loss"]),
                       gradients=gradient_difference(tensors, golden))
    for key in ("strided_ppl", "hf_strided_ppl"):
        differences[key] = difference(figures[key]["ppl"], stored[key]["ppl"])
    for key in ("losses", "grad_norms"):
        differences[key] = difference(figures["train"][key], stored["train"][key])
    same_tokens = figures["greedy"] == stored["greedy"]
    holds = same_tokens and all(differences[key] <= allowance * tolerance
                                for key, allowance in ALLOWANCES.items())
    listed = ", ".join(f"{key} {value:.1e}" for key, value in differences.items())
    print(f"{'holds' if holds else 'FAILS'}: {folder.name}: "
          f"greedy {'equal' if same_tokens else 'DIFFERS'}, {listed}")
    return holds


def shapes(tensors):
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(families.FAMILIES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--check", type=pathlib.Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of --check")
    parser.add_argument("--add", type=pathlib.Path, nargs="+", metavar="FOLDER")
    arguments = parser.parse_args()
    # Sums in another order would be other bytes.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    if arguments.check:
        sys.exit(not all([check(folder, arguments.tolerance) for folder in arguments.check]))
    if arguments.add:
        for folder in arguments.add:
            add_numbers(folder)
        return
    for name in arguments.names or families.FAMILIES:
        make(name, arguments.out / name)


if __name__ == "__main__":
    main()
