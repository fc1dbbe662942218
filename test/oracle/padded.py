"""Random cases of DeepSpeed-Chat's padded forms, in float64: its PPO step from padded answers to losses, and its reward
model's loss on every position.

Writes test/fixtures/formulas/deepspeed-chat-padded.json. Written from the published formulas on whole padded batches, not
from code: T positions, prompts of P tokens, index t scores token t + 1. Threefold knows no padding, so its functions are
compared with what stands in the answers' window. Covered, and checked at the end: end token = padding and another one,
answers with an end token, cut ones, the longest of a batch, ones of at most one token (dropped), clipped scores, ratios and
values, padding before a row, rows of which one is shorter, identical rows.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from formulas import normal

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "formulas" / "deepspeed-chat-padded.json"
CASES = 200
KL, CLIP, GAMMA, LAMBDA, RATIO_CLIP, VALUE_CLIP = 0.1, 5.0, 1.0, 0.95, 0.2, 0.2


def short(values):
    """Far more digits than the bound of the comparison needs."""
    return np.round(np.asarray(values, dtype=np.float64), 7).tolist()


def experience(rng, index, seen):
    """Prompts of P tokens, answers padded to the longest: rewards, values, advantages, returns, both losses, gradients."""
    same = index % 2 == 0
    pad, eos = (1, 1) if same else (0, 1)
    prompt, limit, batch = int(rng.integers(1, 4)), int(rng.integers(2, 9)), int(rng.integers(1, 4))
    answers = []
    for _ in range(batch):
        length = limit if rng.random() < 0.25 else int(rng.integers(1, limit + 1))
        ids = rng.integers(2, 20, length).tolist()
        ended = length < limit or rng.random() < 0.5
        if ended:
            ids[-1] = eos
        # a padding token that was drawn, inside an answer
        if not same and length > 2 and rng.random() < 0.3:
            ids[int(rng.integers(0, length - 1))] = pad
            seen["padding drawn"] += 1
        answers.append(ids)
        seen[f"{'pad = eos' if same else 'pad, eos'}, {'ended' if ended else 'cut'}"] += 1
    width = max(map(len, answers))
    rows = torch.full((batch, prompt + width), pad)
    for row, ids in zip(rows, answers):
        row[:prompt] = 2
        row[prompt:prompt + len(ids)] = torch.tensor(ids)
    seen["fills its batch, eos"] += sum(not same and len(ids) == width and ids[-1] == eos for ids in answers)
    T = prompt + width
    mask = (rows != pad).double()
    logprobs = torch.tensor(normal(rng, (batch, T - 1), 1.0, -2.0))
    reference = logprobs + torch.tensor(normal(rng, (batch, T - 1), 0.5))
    critic = torch.tensor(normal(rng, (batch, T)))
    scores = torch.tensor(normal(rng, (batch, T), 4.0))

    # the score: the value before the first padding token at or behind the prompt, or the last one
    ends = [next((t for t in range(prompt, T) if row[t] == pad), T) for row in rows.tolist()]
    score = torch.stack([scores[b, end - 1] for b, end in enumerate(ends)])
    seen["score clipped"] += int((score.abs() > CLIP).sum())

    start, steps = prompt - 1, mask[:, 1:]
    rewards, old_values = -KL * (logprobs - reference), critic[:, :-1].clone()
    for b in range(batch):
        end = start + int(steps[b, start:].sum()) + 1
        last = min(end, T - 1) - 1
        rewards[b, last] += score[b].clamp(-CLIP, CLIP)
        rewards[b, end:] = 0
        old_values[b, end:] = 0
        seen["score on a step that counts" if steps[b, last] else "score on a step that does not count"] += 1
    delta = rewards + GAMMA * torch.cat([old_values[:, 1:], torch.zeros(batch, 1)], 1) - old_values
    # the sum written out, so that the oracle does not share the recursion of an implementation
    advantages = torch.zeros(batch, T - 1, dtype=torch.float64)
    for t in range(start, T - 1):
        advantages[:, t] = sum((GAMMA * LAMBDA) ** (k - t) * delta[:, k] for k in range(t, T - 1))
    returns = advantages + old_values

    # answers of at most one token are dropped before the losses
    kept = (rows[:, prompt:] != pad).sum(1) > 1
    seen["dropped"] += int((~kept).sum())
    window = steps[:, start:] * kept[:, None]
    count = window.sum()
    new_logprobs = (logprobs + torch.tensor(normal(rng, (batch, T - 1), 0.3))).requires_grad_()
    new_values = (critic[:, :-1] + torch.tensor(normal(rng, (batch, T - 1), 0.3))).requires_grad_()
    if count > 0:
        ratio = torch.exp((new_logprobs - logprobs)[:, start:] * window)
        gain = advantages[:, start:]
        actor = (torch.maximum(-gain * ratio, -gain * ratio.clamp(1 - RATIO_CLIP, 1 + RATIO_CLIP)) * window).sum() / count
        old, new, target = old_values[:, start:], new_values[:, start:], returns[:, start:]
        bounded = torch.minimum(torch.maximum(new, old - VALUE_CLIP), old + VALUE_CLIP)
        value = 0.5 * (torch.maximum((new - target) ** 2, (bounded - target) ** 2) * window).sum() / count
        (actor + value).backward()
        losses = {"actorLoss": actor.item(), "criticLoss": value.item(), "gradLogprobs": short(new_logprobs.grad[:, start:]),
                  "gradValues": short(new_values.grad[:, start:])}
        outside = ((ratio - 1).abs() > RATIO_CLIP) & (window > 0)
        seen["ratio clipped"] += int(outside.sum())
        seen["ratio not clipped"] += int(((window > 0) & ~outside).sum())
        seen["value clipped"] += int((((new - old).abs() > VALUE_CLIP) & (window > 0)).sum())
    else:
        losses = None
    inside = [x[:, start:] for x in (logprobs, reference, critic[:, :-1], new_logprobs.detach(), new_values.detach())]
    names = ("logprobs", "refLogprobs", "values", "newLogprobs", "newValues")
    return {"padId": pad, "promptLength": prompt, "answers": answers, "width": width, **{n: short(x) for n, x in zip(names, inside)},
            "scores": short(scores), "score": short(score), "rewards": short(rewards[:, start:]),
            "oldValues": short(old_values[:, start:]), "advantages": short(advantages[:, start:]), "returns": short(returns[:, start:]),
            "counted": window.int().tolist(), "losses": losses}


def every_position(rng, index, seen):
    """mean over pairs of the mean of -log sigmoid(chosen - rejected) from the first difference to the longer end."""
    same = index % 2 == 0
    pad, eos = (1, 1) if same else (0, 1)
    beginning = int(rng.integers(0, 2))
    size, pairs = 12, int(rng.integers(1, 4))
    rows, scores, spans = [], [], []
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(pairs):
        prompt = [pad] * beginning + rng.integers(2, 6, int(rng.integers(1, 4))).tolist()
        both = [prompt + rng.integers(2, 6, int(rng.integers(1, 6))).tolist() + [eos] for _ in range(2)]
        if rng.random() < 0.15:
            both[1] = list(both[0])
        chosen, rejected = (torch.tensor(ids + [pad] * (size - len(ids))) for ids in both)
        s = [torch.tensor(normal(rng, size, 2.0), requires_grad=True) for _ in range(2)]
        different = (chosen != rejected).nonzero()[:, 0].tolist()

        def end(row):
            found = (row == pad).nonzero()[:, 0].tolist()
            return found[beginning] if len(found) > beginning else size

        ends = [end(chosen), end(rejected)]
        if different:
            first, last = different[0], max(ends)
            assert 0 < first < last
            seen["shorter answer has padding that counts" if ends[0] != ends[1] else "answers of one length"] += 1
        else:
            s[1] = s[0].detach().clone().requires_grad_()
            first, last = size - 1, size
            seen["identical"] += 1
        total = total - logsigmoid(s[0][first:last] - s[1][first:last]).mean() / pairs
        rows.append(both)
        scores.append(s)
        spans.append({"identical": not different, "ends": ends})
    total.backward()
    seen[f"{'pad = eos' if same else 'pad, eos'}, {beginning} before"] += 1
    return {"padId": pad, "atBeginning": beginning, "length": size, "pairs": [
        {**span, "chosen": both[0], "rejected": both[1], "scores": [short(x.detach()) for x in s], "grads": [short(x.grad) for x in s]}
        for both, s, span in zip(rows, scores, spans)], "loss": total.item()}


def main():
    cases, covered = {}, {}
    for seed, (name, make) in enumerate({"experience": experience, "everyPosition": every_position}.items()):
        rng, seen = np.random.default_rng(8000 + seed), Counter()
        cases[name] = [make(rng, index, seen) for index in range(CASES)]
        covered[name] = dict(sorted(seen.items()))
    assert set(covered["experience"]) == {
        "pad = eos, ended", "pad = eos, cut", "pad, eos, ended", "pad, eos, cut", "padding drawn", "dropped", "score clipped",
        "fills its batch, eos", "score on a step that counts", "score on a step that does not count", "ratio clipped",
        "ratio not clipped", "value clipped"}, covered
    assert len(covered["everyPosition"]) == 7, covered
    assert all(n >= 20 for seen in covered.values() for n in seen.values()), covered
    body = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(case, allow_nan=False, separators=(",", ":")) for case in rows) + "\n]"
                      for name, rows in cases.items())
    OUT.write_text("{\n" + body + "\n}\n")
    assert json.loads(OUT.read_text()) == cases
    print(f"{OUT.name}: {covered}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
