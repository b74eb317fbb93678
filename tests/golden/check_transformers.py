#!/usr/bin/env python3
"""Does transformers compute what Polyhead trained? Trains tiny checkpoints of every attention with the
binary and loads them with transformers.

    cmake --build build/release --target polyhead golden_families_test
    python3 tests/golden/check_transformers.py build/release

For each checkpoint: transformers' class takes all tensors and no others, without a warning; the
exported folder has the same bytes; Polyhead's logits, gradients, training steps and perplexities are
those of transformers (golden_families_test on the exported folders); `polyhead evaluate` reports the
perplexity of transformers' documented recipe. Then a conversion is compared with numpy, bit by bit, and
its perplexity with transformers'.
Needs numpy, PyTorch, safetensors and transformers, like make_goldens.py.
"""

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import safetensors.numpy
import safetensors.torch
import torch
import transformers

import make_goldens
import reference

HERE = pathlib.Path(__file__).parent
STEPS, SEQUENCE, TEXT_BYTES = 20, 64, 3000
TOLERANCE = 1e-5
LEAST_MARGIN = 1e-4  # of the two best logits, where they decide what follows

COMMON = dict(num_layers=2, hidden_size=48, ffn_hidden_size=70, num_attention_heads=12,
              init_method_std=0.2)
LATENT = dict(COMMON, num_attention_heads=6, kv_lora_rank=15, qk_head_dim=8, qk_pos_emb_head_dim=6,
              v_head_dim=10)
YARN = dict(rope_type="yarn", rotary_scaling_factor=4.0, original_max_position_embeddings=32)
# Name: the model section, and the class that must read it.
MODELS = dict(
    mha=(COMMON, "Llama"),
    gqa=(dict(COMMON, num_query_groups=4), "Llama"),
    gqa_llama3=(dict(COMMON, num_query_groups=4, rope_type="llama3", rotary_scaling_factor=6.0,
                     original_max_position_embeddings=32), "Llama"),
    biases=(dict(COMMON, add_bias_linear="true"), "Llama"),
    uneven_heads=(dict(COMMON, hidden_size=50, kv_channels=4), "Mistral"),
    mqa=(dict(COMMON, num_query_groups=1, tie_word_embeddings="true"), "Llama"),
    swa=(dict(COMMON, num_query_groups=4, window_size=9), "Mistral"),
    alternating=(dict(COMMON, num_query_groups=4, window_size=9, window_pattern=2), "Ministral"),
    qwen2_windows=(dict(COMMON, num_layers=3, num_query_groups=2, add_qkv_bias="true", window_size=9,
                        window_pattern="[0, 1, 1]"), "Qwen2"),
    qwen3_windows=(dict(COMMON, num_layers=3, num_query_groups=2, qk_norm="true", window_size=9,
                        window_pattern="[1, 0, 1]"), "Qwen3"),
    gemma2=(dict(COMMON, num_query_groups=6, norm_weight="one_plus", post_norms="true",
                 activation="geglu", scale_embeddings="true", tie_word_embeddings="true",
                 attention_softcap=20.0, final_softcap=15.0, window_size=9, window_pattern=2,
                 softmax_scale=0.25), "Gemma2"),
    gpt2=(dict(COMMON, position_embedding="learned_absolute", max_position_embeddings=64,
               normalization="LayerNorm", activation="gelu_tanh", add_bias_linear="true",
               tie_word_embeddings="true"), "GPT2"),
    gpt2_untied=(dict(COMMON, position_embedding="learned_absolute", max_position_embeddings=64,
                      normalization="LayerNorm", activation="gelu", add_bias_linear="true"), "GPT2"),
    mla=(dict(LATENT, q_lora_rank=19), "DeepseekV3"),
    mla_yarn=(dict(LATENT, **YARN, mscale=1.0, mscale_all_dim=0.7), "DeepseekV3"),
)


class Warnings(logging.Handler):
    """Collects what transformers says and Python warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def add_numbers(folder, model, stream):
    """make_goldens.py's files, on tokens of the text. Prompts are passed over where the best logits come
    too close; trained models may repeat themselves."""
    def texts(*shape):
        return stream[torch.arange(numpy.prod(shape)).reshape(shape) % len(stream)]

    pair = texts(make_goldens.BATCH, make_goldens.LENGTH + 1)
    tokens = dict(input_ids=pair[:, :-1].contiguous(), targets=pair[:, 1:].contiguous(),
                  stream=texts(make_goldens.STREAM_TOKENS),
                  train_tokens=texts(make_goldens.TRAIN_STEPS, make_goldens.BATCH,
                                     make_goldens.LENGTH + 1))
    prompts = stream.split(make_goldens.PROMPT_TOKENS)
    prompt = next(prompt.tolist() for prompt in prompts
                  if reference.greedy(model, prompt.tolist())[1] > LEAST_MARGIN)
    tensors, figures = reference.numbers(model, tokens, prompt)
    safetensors.torch.save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(figures))


class Workshop:
    def __init__(self, build, folder):
        self.binary = build / "scripts/polyhead"
        self.families_test = build / "tests/golden/golden_families_test"
        self.folder = folder
        text = "".join(path.read_text() for path in sorted(HERE.glob("*.py")))
        (folder / "train.txt").write_text(text)
        (folder / "scored.txt").write_bytes(text.encode()[:TEXT_BYTES])
        for name in ("train", "scored"):
            self.polyhead("tokenize", folder / f"{name}.txt", "--tokenizer", "bytes", "--output",
                          folder / name)

    def polyhead(self, *arguments):
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True,
                              env=dict(os.environ, OMP_NUM_THREADS="1"))
        if done.returncode != 0:
            raise SystemExit(done.stderr)

    def train(self, name, model):
        section = "".join(f"  {key}: {value}\n" for key, value in model.items())
        run = self.folder / "runs" / name
        config = self.folder / f"{name}.yaml"
        config.write_text(f"""model:
{section}data:
  train: [{self.folder / "train"}]
  sequence_length: {SEQUENCE}
optimizer: {{learning_rate: 3.0e-3, schedule: constant}}
training: {{train_steps: {STEPS}, global_batch_size: 4, micro_batch_size: 4, device: cpu}}
checkpoint: {{folder: {run}}}
""")
        self.polyhead("train", config)
        return run / f"step_{STEPS:08}"

    def hf_strided_loss(self, checkpoint):
        out = self.folder / "evaluation"
        self.polyhead("evaluate", checkpoint, "--data", self.folder / "scored", "--windows",
                      "hf_strided", "--context", reference.WINDOW, "--stride", reference.STRIDE,
                      "--device", "cpu", "--out", out)
        return json.loads(out.with_suffix(".json").read_text())["checkpoints"][0]["loss"]


def load_without_a_word(folder, expected):
    heard = Warnings()
    logger = logging.getLogger("transformers")
    logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        model = make_goldens.load_model(folder)
    logger.removeHandler(heard)
    said = heard.messages + [str(warning.message) for warning in raised]
    if said:
        raise SystemExit(f"{folder}: transformers warns: {said}")
    if not type(model).__name__.startswith(expected):
        raise SystemExit(f"{folder}: read by {type(model).__name__}, not {expected}")
    return model


def check_perplexity(workshop, name, checkpoint, expected):
    """Returns transformers' model of it, and the tokens that were scored."""
    theirs = load_without_a_word(checkpoint, expected)
    stream = torch.tensor(list((workshop.folder / "scored.txt").read_bytes()))
    want = reference.hf_strided_ppl(theirs, stream)["ppl"]
    got = numpy.exp(workshop.hf_strided_loss(checkpoint))
    error = abs(got - want) / want
    print(f"{name}: {type(theirs).__name__}, perplexity {want:.4f}, error {error:.1e}", flush=True)
    if error > TOLERANCE:
        raise SystemExit(f"{name}: polyhead evaluate says {got}, transformers {want}")
    return theirs, stream


def check(workshop, name, model, expected):
    checkpoint = workshop.train(name, model)
    exported = workshop.folder / "exported" / name
    workshop.polyhead("export", checkpoint, "--out", exported)
    for file in ("config.json", "generation_config.json", "model.safetensors"):
        if (exported / file).read_bytes() != (checkpoint / file).read_bytes():
            raise SystemExit(f"{exported}: {file} differs from the checkpoint's")
    theirs, stream = check_perplexity(workshop, name, checkpoint, expected)
    add_numbers(exported, theirs, stream)


def check_conversion(workshop):
    """Twelve heads to four groups, by their mean in f32."""
    source, result = workshop.folder / "runs/mha" / f"step_{STEPS:08}", workshop.folder / "converted"
    workshop.polyhead("convert", source, "--to", "gqa", "--groups", 4, "--out", result)
    want = safetensors.numpy.load_file(source / "model.safetensors")
    got = safetensors.numpy.load_file(result / "model.safetensors")
    for name, heads in want.items():
        if ".k_proj." in name or ".v_proj." in name:
            heads = heads.reshape(4, 3, 4, 48)  # groups, heads of a group, features, hidden size
            want[name] = heads.mean(axis=1, dtype=numpy.float32).reshape(16, 48)
        if got[name].tobytes() != want[name].tobytes():
            raise SystemExit(f"{name}: {numpy.abs(got[name] - want[name]).max()} from numpy's")
    print(f"conversion to 4 groups: {len(want)} tensors equal to numpy's, bit by bit")
    check_perplexity(workshop, "converted to 4 groups", result, "LlamaForCausalLM")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("build", type=pathlib.Path, help="where CMake built")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(arguments.build.resolve(), pathlib.Path(folder))
        for name in arguments.names or MODELS:
            check(workshop, name, *MODELS[name])
        if not arguments.names or "mha" in arguments.names:
            check_conversion(workshop)
        sys.stdout.flush()
        environment = dict(os.environ, POLYHEAD_GOLDENS=str(workshop.folder / "exported"))
        sys.exit(subprocess.run([workshop.families_test], env=environment).returncode)


if __name__ == "__main__":
    main()
