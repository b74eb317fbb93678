"""Training steps of tests/bench/steps/*.yaml in PyTorch: the same model, plainly written.

bf16 autocast over f32 masters, torch.compile, cuDNN's attention where it takes the shape (else
FlashAttention), clipping, fused AdamW. Tokens are random.
"""

import gc
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel

from torch_ops import rope_table, rotated

EPSILON, LATENT_EPSILON = 1e-5, 1e-6
WARM_UP_STEPS = 3
KNOWN_KEYS = {
    "num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups",
    "vocab_size", "q_lora_rank", "kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim",
    "tie_word_embeddings", "add_qkv_bias",
}


class Norm(nn.Module):
    def __init__(self, size, epsilon=EPSILON):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        wide = x.float()
        rstd = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (wide * rstd * self.weight).to(x.dtype)


def attend(q, k, v, value_width):
    """q, k, v (B, T, heads, dim) -> (B, T, H V). Values are padded to `value_width` for kernels that
    want them so."""
    value_dim = v.shape[-1]
    if value_width > value_dim:
        v = F.pad(v, (0, value_width - value_dim))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return out[..., :value_dim].transpose(1, 2).flatten(2)


class GroupedQueryAttention(nn.Module):
    def __init__(self, model, value_width):
        super().__init__()
        self.heads, self.groups, self.dim, _ = head_shape(model)
        self.value_width = value_width
        hidden = model["hidden_size"]
        self.qkv = nn.Linear(hidden, (self.heads + 2 * self.groups) * self.dim,
                             bias=model.get("add_qkv_bias", False))
        self.out = nn.Linear(self.heads * self.dim, hidden, bias=False)

    def forward(self, x, cos, sin):
        heads = self.qkv(x).unflatten(-1, (-1, self.dim))
        q, k, v = heads.split([self.heads, self.groups, self.groups], -2)
        return self.out(attend(rotated(q, cos, sin), rotated(k, cos, sin), v, self.value_width))


class LatentAttention(nn.Module):
    def __init__(self, model, value_width):
        super().__init__()
        self.heads = model["num_attention_heads"]
        self.value_width = value_width
        self.nope, self.rope = model["qk_head_dim"], model["qk_pos_emb_head_dim"]
        self.value = model["v_head_dim"]
        self.ranks = [model["q_lora_rank"], model["kv_lora_rank"]]
        hidden = model["hidden_size"]
        self.down = nn.Linear(hidden, sum(self.ranks) + self.rope, bias=False)
        self.q_norm = Norm(self.ranks[0], LATENT_EPSILON)
        self.kv_norm = Norm(self.ranks[1], LATENT_EPSILON)
        self.q_up = nn.Linear(self.ranks[0], self.heads * (self.nope + self.rope), bias=False)
        self.kv_up = nn.Linear(self.ranks[1], self.heads * (self.nope + self.value), bias=False)
        self.out = nn.Linear(self.heads * self.value, hidden, bias=False)

    def forward(self, x, cos, sin):
        q, kv, k_rope = self.down(x).split([*self.ranks, self.rope], -1)
        q = self.q_up(self.q_norm(q)).unflatten(-1, (self.heads, -1))
        q_nope, q_rope = q.split([self.nope, self.rope], -1)
        kv = self.kv_up(self.kv_norm(kv)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.split([self.nope, self.value], -1)
        k_rope = rotated(k_rope.unsqueeze(-2), cos, sin).expand(-1, -1, self.heads, -1)
        q = torch.cat([q_nope, rotated(q_rope, cos, sin)], -1)
        k = torch.cat([k_nope, k_rope], -1)
        return self.out(attend(q, k, v, self.value_width))


class Block(nn.Module):
    def __init__(self, model, value_width):
        super().__init__()
        hidden, ffn = model["hidden_size"], model["ffn_hidden_size"]
        self.attention_norm, self.mlp_norm = Norm(hidden), Norm(hidden)
        make = LatentAttention if "kv_lora_rank" in model else GroupedQueryAttention
        self.attention = make(model, value_width)
        self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, model, length, value_width):
        super().__init__()
        hidden, vocabulary = model["hidden_size"], model["vocab_size"]
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList([Block(model, value_width) for _ in range(model["num_layers"])])
        self.norm = Norm(hidden)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        if model.get("tie_word_embeddings", False):
            self.head.weight = self.embedding.weight
        rotary_dim = model.get("qk_pos_emb_head_dim", head_shape(model)[2])
        cos, sin = rope_table(length, rotary_dim)  # one for all heads: (T, 1, dim / 2)
        self.register_buffer("cos", cos[:, None])
        self.register_buffer("sin", sin[:, None])

    def forward(self, tokens, targets):
        x = self.embedding(tokens).bfloat16()
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def head_shape(model):
    """Heads, groups, dimensions of a key and of a value."""
    heads = model["num_attention_heads"]
    if "kv_lora_rank" in model:
        return heads, heads, model["qk_head_dim"] + model["qk_pos_emb_head_dim"], model["v_head_dim"]
    dim = model["hidden_size"] // heads
    return heads, model.get("num_query_groups", heads), dim, dim


def takes(backend, model, value_width):
    heads, groups, key_dim, _ = head_shape(model)
    q, k, v = (torch.randn(1, 256, count, dim, device="cuda", dtype=torch.bfloat16,
                           requires_grad=True)
               for count, dim in ((heads, key_dim), (groups, key_dim), (groups, value_width)))
    try:
        with sdpa_kernel(backend):
            attend(q, k, v, value_width).sum().backward()
    except RuntimeError:
        return False
    return True


def choose_attention(model):
    """The first back end that takes the model's heads: itself, its name, the width of values."""
    _, _, key_dim, value_dim = head_shape(model)
    for value_width in dict.fromkeys([value_dim, key_dim]):
        for backend, name in ((SDPBackend.CUDNN_ATTENTION, "cudnn"),
                              (SDPBackend.FLASH_ATTENTION, "flash")):
            if takes(backend, model, value_width):
                return backend, name if value_width == value_dim else f"{name}, v padded", value_width
    raise RuntimeError("neither cuDNN nor FlashAttention takes these heads")


class TrainingStep:
    def __init__(self, path):
        with open(path) as file:
            config = yaml.safe_load(file)
        self.shape, self.length = config["model"], config["data"]["sequence_length"]
        if unknown := set(self.shape) - KNOWN_KEYS:
            raise ValueError(f"the PyTorch model does not know {', '.join(sorted(unknown))}")
        self.sequences = config["training"]["micro_batch_size"]
        self.batch = config["training"]["global_batch_size"]
        self.attention, self.attention_name, value_width = choose_attention(self.shape)
        with torch.device("cuda"):
            self.model = Model(self.shape, self.length, value_width)
        self.parameters = dict(self.model.named_parameters())
        self.compiled = torch.compile(self.model, dynamic=False)

    def begin_round(self):
        for name, p in self.parameters.items():
            p.untyped_storage().resize_(p.numel() * p.element_size())
            with torch.no_grad():
                if p.dim() == 2:
                    p.normal_(0, 0.02)
                else:
                    p.fill_(0 if name.endswith("bias") else 1)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-4, weight_decay=0.1,
                                           fused=True)
        size = (self.batch // self.sequences, self.sequences, self.length)
        self.tokens, self.targets = (
            torch.randint(self.shape["vocab_size"], size, device="cuda") for _ in range(2))

    def end_round(self):
        """Leaves the device's memory to the other side; what is compiled stays."""
        self.optimizer = self.tokens = self.targets = None
        for p in self.parameters.values():
            p.grad = None
            p.untyped_storage().resize_(0)

    def run(self):
        loss = 0
        for tokens, targets in zip(self.tokens, self.targets):
            with torch.autocast("cuda", torch.bfloat16):
                part = self.compiled(tokens, targets) / len(self.tokens)
            part.backward()
            loss += part.detach()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def time_round(self, steps):
        self.begin_round()
        try:
            seconds = []
            with sdpa_kernel(self.attention):
                for _ in range(WARM_UP_STEPS + steps):
                    begin = time.perf_counter()
                    loss = self.run()
                    seconds.append(time.perf_counter() - begin)
        finally:
            self.end_round()
        return {"ms": 1e3 * statistics.median(seconds[WARM_UP_STEPS:]), "iterations": steps,
                "loss": round(loss, 4), "micro_batch_size": self.sequences,
                "backend": f"compiled, {self.attention_name}"}

    def time(self, steps):
        """Where the micro-batch does not fit, halves it; the steps stay the same."""
        while True:
            torch.cuda.reset_peak_memory_stats()
            try:
                result = self.time_round(steps)
                return {**result, "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)}
            except torch.OutOfMemoryError:
                if self.sequences % 2 == 1:
                    raise
            # Only here are the frames that hold the memory gone.
            self.sequences //= 2
            gc.collect()
            torch.cuda.empty_cache()
