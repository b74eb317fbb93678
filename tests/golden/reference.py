"""The numbers that a golden folder holds, as transformers and PyTorch compute them on one model."""

import copy
import math

import torch
import torch.nn.functional as F

WINDOW, STRIDE = 64, 32
GREEDY_TOKENS = 48
# At this rate and epsilon rounding moves the losses by less than 1e-6, a wrong setting by 1e-4 or more:
# with a smaller epsilon Adam turns the rounding of small gradients into whole steps.
OPTIMIZER = dict(lr=3e-3, betas=[0.9, 0.95], eps=1e-5, weight_decay_2d=0.2)


def forward_and_backward(model, input_ids, targets):
    """logits, mean loss, and the gradient of every parameter; a tied one has one, of both its uses."""
    model.zero_grad()
    logits = model(input_ids, use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return logits.detach(), loss.item(), gradients


def global_norm(gradients):
    return math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))


@torch.no_grad()
def greedy(model, prompt):
    """The tokens that follow, the whole prefix computed anew for each, and how close the second best
    came. An end token does not end them."""
    tokens, margin = list(prompt), math.inf
    for _ in range(GREEDY_TOKENS):
        best = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
    return tokens[len(prompt):], margin


def strided_windows(length):
    """(begin, end, first token that no window before has seen)"""
    seen = 0
    for begin in range(0, length, STRIDE):
        end = min(begin + WINDOW, length)
        yield begin, end, seen
        seen = end
        if end == length:
            return


def perplexity(total, tokens):
    return dict(window=WINDOW, stride=STRIDE, tokens_scored=tokens, ppl=math.exp(total / tokens))


@torch.no_grad()
def strided_ppl(model, stream):
    """Every target counts once: all tokens but the first."""
    total, scored = 0.0, 0
    for begin, end, seen in strided_windows(len(stream)):
        logits = model(stream[None, begin:end - 1], use_cache=False).logits[0]
        losses = F.cross_entropy(logits, stream[begin + 1:end], reduction="none")
        new = losses[max(seen - begin - 1, 0):]
        total += new.double().sum().item()
        scored += len(new)
    return perplexity(total, scored)


@torch.no_grad()
def hf_strided_ppl(model, stream):
    """By "Perplexity of fixed-length models" in the documentation of transformers: the model's own
    loss of each window, weighted by its labels less one, although only the first window loses one."""
    total, weights = 0.0, 0
    for begin, end, seen in strided_windows(len(stream)):
        input_ids = stream[None, begin:end]
        labels = input_ids.clone()
        labels[:, :seen - begin] = -100
        weight = (labels != -100).sum().item() - 1
        total += model(input_ids, labels=labels, use_cache=False).loss.item() * weight
        weights += weight
    return perplexity(total, weights)


def train(model, train_tokens, clip):
    """AdamW at a constant rate. The losses are those before each step, the norms those before
    clipping."""
    model = copy.deepcopy(model)
    parameters = list(model.parameters())
    decay = OPTIMIZER["weight_decay_2d"]
    optimizer = torch.optim.AdamW(
        [dict(params=[p for p in parameters if p.dim() >= 2], weight_decay=decay),
         dict(params=[p for p in parameters if p.dim() < 2], weight_decay=0.0)],
        lr=OPTIMIZER["lr"], betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"], foreach=False)
    losses, grad_norms = [], []
    for tokens in train_tokens:
        _, loss, _ = forward_and_backward(model, tokens[:, :-1], tokens[:, 1:])
        losses.append(loss)
        grad_norms.append(torch.nn.utils.clip_grad_norm_(parameters, clip).item())
        optimizer.step()
    return dict(OPTIMIZER, clip=clip, losses=losses, grad_norms=grad_norms)


def numbers(model, tokens, prompt, clip=None):
    """What a folder says of its model: tensors, and figures. Without `clip` some steps of the training
    are clipped and some are not, since the norms fall as it goes."""
    logits, loss, gradients = forward_and_backward(model, tokens["input_ids"], tokens["targets"])
    tensors = dict(tokens, logits=logits)
    tensors |= {f"grad.{name}": gradient for name, gradient in gradients.items()}
    grad_norm = global_norm(gradients)
    continuation, margin = greedy(model, prompt)
    figures = dict(
        loss=loss, grad_norm=grad_norm, prompt=prompt, greedy=continuation, greedy_margin=margin,
        strided_ppl=strided_ppl(model, tokens["stream"]),
        hf_strided_ppl=hf_strided_ppl(model, tokens["stream"]),
        train=train(model, tokens["train_tokens"], clip or round(0.85 * grad_norm, 2)))
    return tensors, figures
