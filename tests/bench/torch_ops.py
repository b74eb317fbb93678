"""The cases of bench_gpu_ops in PyTorch: same names, same shapes.

backends(name) gives, for each back end that a case has, a function that makes (compiles) it; what that
returns prepares operands and returns the work to time. A name in parentheses does less than ours.
"""

import collections
import re

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

EPSILON = 1e-5
ATTENTION_TOKENS = 16384
Heads = collections.namedtuple("Heads", "heads groups key_dim value_dim window")
HEADS = {
    "mha d128": Heads(32, 32, 128, 128, 0),
    "gqa 8 groups d128": Heads(32, 8, 128, 128, 0),
    "mqa d128": Heads(32, 1, 128, 128, 0),
    "mha d64": Heads(32, 32, 64, 64, 0),
    "mla 192/128": Heads(32, 32, 192, 128, 0),
    "mha d128 window 1024": Heads(32, 32, 128, 128, 1024),
}


def random(*shape, dtype=torch.bfloat16, trained=False):
    return torch.randn(shape, dtype=dtype, device="cuda", requires_grad=trained)


def random_ids(count, vocabulary, as_words):
    """Uniform, or as frequent as words are: the id's logarithm is uniform."""
    place = torch.rand(count, dtype=torch.float64, device="cuda")
    ids = vocabulary**place - 1 if as_words else vocabulary * place
    return ids.long().clamp_(max=vocabulary - 1)


def compiled(function):
    return torch.compile(function, dynamic=False, fullgraph=True)


def eager_and_compiled(function, prepare):
    """prepare(function) returns the work."""

    def of(transform):
        def make():
            transformed = transform(function)
            return lambda: prepare(transformed)

        return make

    return {"eager": of(lambda f: f), "compiled": of(compiled)}


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def forward_work(function, inputs):
    return lambda: function(*inputs)


def backward_work(function, inputs):
    """The backward pass alone, to all inputs that are trained."""
    results = as_tuple(function(*inputs))
    gradients = tuple(torch.randn_like(result) for result in results)
    trained = [x for x in inputs if x.requires_grad]
    return lambda: torch.autograd.grad(results, trained, gradients, retain_graph=True)


def pass_work(which, function, inputs):
    return (backward_work if which == "backward" else forward_work)(function, inputs)


def gemm(_, which, tokens, n_in, n_out):
    def forward():
        x, weight, y = random(tokens, n_in), random(n_out, n_in), random(tokens, n_out)
        return lambda: torch.mm(x, weight.t(), out=y)

    def dx():
        dy, weight, result = random(tokens, n_out), random(n_out, n_in), random(tokens, n_in)
        return lambda: torch.mm(dy, weight, out=result)

    def dweight(accumulate):
        dy, x, product = random(tokens, n_out), random(tokens, n_in), random(n_out, n_in)
        total = random(n_out, n_in, dtype=torch.float32)

        def work():
            torch.mm(dy.t(), x, out=product)
            if accumulate:
                total.add_(product)

        return work

    if which == "dweight":
        # As gradients of f32 masters come about; and without their sum, for what cuBLAS does.
        return {"mm, add to f32": lambda: lambda: dweight(True),
                "(mm)": lambda: lambda: dweight(False)}
    return {"mm": lambda: {"forward": forward, "dx": dx}[which]}


def attention(shape, which, length):
    heads = HEADS[shape]
    batch = ATTENTION_TOKENS // length
    scale = heads.key_dim**-0.5
    grouped = heads.groups != heads.heads

    def heads_first(x):
        return x.transpose(1, 2)

    def prepare(attend, value_dim=heads.value_dim, layout=heads_first):
        def operand(count, dim):
            return layout(random(batch, length, count, dim)).requires_grad_()

        inputs = (operand(heads.heads, heads.key_dim), operand(heads.groups, heads.key_dim),
                  operand(heads.groups, value_dim))
        return pass_work(which, attend, inputs)

    def sdpa(backend):
        def attend(q, k, v):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale,
                                                      enable_gqa=grouped)

        return attend

    def flash_window():  # scaled_dot_product_attention has no argument for it
        from torch.nn.attention.varlen import varlen_attn
        begins = torch.arange(0, ATTENTION_TOKENS + 1, length, device="cuda", dtype=torch.int32)
        return lambda: prepare(
            lambda q, k, v: varlen_attn(q, k, v, begins, begins, length, length, scale=scale,
                                        window_size=(heads.window - 1, 0)),
            layout=lambda x: x.flatten(0, 1))

    def flex():
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        mask = create_block_mask(lambda b, h, q, k: (q >= k) & (q - k < heads.window), None, None,
                                 length, length, device="cuda")
        kernel = compiled(flex_attention)
        return lambda: prepare(lambda q, k, v: kernel(q, k, v, block_mask=mask, scale=scale))

    if heads.window:
        return {"flex": flex, "flash": flash_window}
    result = {"cudnn": lambda: lambda: prepare(sdpa(SDPBackend.CUDNN_ATTENTION))}
    if heads.key_dim == heads.value_dim:
        result["flash"] = lambda: lambda: prepare(sdpa(SDPBackend.FLASH_ATTENTION))
    else:  # it takes values as wide as keys only
        result["flash, v padded"] = lambda: lambda: prepare(
            sdpa(SDPBackend.FLASH_ATTENTION), value_dim=heads.key_dim)
    return result


def rms_norm(which, tokens, hidden):
    def norm(x, weight):
        return F.rms_norm(x, (hidden,), weight, EPSILON)

    def norm_of_sum(x, weight, residual):
        total = x + residual
        return total, norm(total, weight)

    with_residual = which.endswith("with residual")

    def prepare(function):
        inputs = [random(tokens, hidden, trained=True), random(hidden, trained=True)]
        if with_residual:
            inputs.append(random(tokens, hidden))
        return pass_work(which.split()[0], function, inputs)

    return eager_and_compiled(norm_of_sum if with_residual else norm, prepare)


def activation(kind, which, tokens, width):
    def swiglu(x):
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def gelu_tanh(x):
        return F.gelu(x, approximate="tanh")

    columns = 2 * width if kind == "swiglu" else width
    return eager_and_compiled(
        {"swiglu": swiglu, "gelu_tanh": gelu_tanh}[kind],
        lambda function: pass_work(which, function, [random(tokens, columns, trained=True)]))


def rotated(x, cos, sin):
    """The last dimension's halves turned against each other."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def rope_table(length, head_dim):
    exponents = torch.arange(0, head_dim, 2, device="cuda") / head_dim
    angles = torch.outer(torch.arange(length, device="cuda").float(), 10000.0**-exponents)
    return angles.cos(), angles.sin()  # (length, head_dim / 2)


def rope(heads, head_dim, tokens, columns):
    length = {64: 1024, 128: 4096}[head_dim]

    def turn(packed, cos, sin):
        turned = packed[..., : heads * head_dim].unflatten(-1, (heads, head_dim))
        return rotated(turned, cos[:, None], sin[:, None])

    return eager_and_compiled(turn, lambda function: forward_work(
        function, [random(tokens // length, length, columns), *rope_table(length, head_dim)]))


def cross_entropy(which, tokens, vocabulary):
    def losses(logits, targets):
        return F.cross_entropy(logits.float(), targets, reduction="none")

    def prepare(function):
        targets = random_ids(tokens, vocabulary, as_words=True)
        if which == "statistics":
            return forward_work(function, [random(tokens, vocabulary), targets])
        logits = random(tokens, vocabulary, trained=True)
        ones = torch.ones(tokens, device="cuda")
        return lambda: torch.autograd.grad(function(logits, targets), logits, ones)

    return eager_and_compiled(losses, prepare)


def adamw(parameters):
    def prepare(rounds):
        value = torch.nn.Parameter(random(parameters, dtype=torch.float32))
        value.grad = random(parameters, dtype=torch.float32)
        rounded = random(parameters)
        optimizer = torch.optim.AdamW([value], lr=1e-4, weight_decay=0.1, fused=True)

        def work():
            optimizer.step()
            if rounds:
                rounded.copy_(value.detach())

        return work

    # Ours writes the bf16 values too.
    return {"fused, copy to bf16": lambda: lambda: prepare(True),
            "(fused)": lambda: lambda: prepare(False)}


def embedding_backward(kind, tokens, vocabulary, hidden):
    def look_up(table, ids):
        return F.embedding(ids, table).bfloat16()

    def prepare(function):
        table = random(vocabulary, hidden, dtype=torch.float32, trained=True)
        return backward_work(function, [table, random_ids(tokens, vocabulary, kind == "words")])

    return eager_and_compiled(look_up, prepare)


PATTERNS = [
    (r"gemm/(.+)/(forward|dx|dweight) (\d+)x(\d+)x(\d+)", gemm),
    (r"attention/(.+)/(forward|backward) T (\d+)", attention),
    (r"rms_norm/(.+) (\d+)x(\d+)", rms_norm),
    (r"activation/(.+)/(forward|backward) (\d+)x(\d+)", activation),
    (r"rope (\d+) heads d(\d+) of (\d+)x(\d+)", rope),
    (r"cross_entropy/(.+) (\d+)x(\d+)", cross_entropy),
    (r"adamw (\d+)", adamw),
    (r"embedding_backward/(.+) (\d+) of (\d+)x(\d+)", embedding_backward),
]


def backends(name):
    for pattern, make in PATTERNS:
        match = re.fullmatch(pattern, name)
        if match:
            return make(*(int(x) if x.isdigit() else x for x in match.groups()))
    return {}
