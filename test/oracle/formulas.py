"""Random cases for the RLHF formulas, as DeepSpeed-Chat's trainer defines them, in float64.

Writes test/fixtures/formulas/deepspeed-chat.json. Written from the published formulas (KL-shaped reward, GAE, clipped
policy and value losses, pairwise ranking loss, DPO, EMA of the weights), not from code. Layout: one sequence is an
array over its n answer tokens, all of them real; the score lands on the last one and the value after it is 0. Loss
cases concatenate several sequences (`lengths`) and average over all N answer tokens.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "formulas" / "deepspeed-chat.json"
CASES = 25


def normal(rng, size, scale=1.0, mean=0.0):
    """Six decimals keep the inputs short; the outputs are those of the rounded inputs."""
    return np.round(mean + scale * rng.standard_normal(size), 6)


def answer_length(rng, index):
    return index % 12 + 1 if index < 24 else int(rng.integers(1, 13))


def answer_lengths(rng, index):
    """Between one and five sequences; the first cases reach the limits n = 1 and n = 12."""
    return [1] if index == 0 else [12, 1, 7] if index == 1 else rng.integers(1, 13, 1 + index % 5).tolist()


def value_and_gradients(function, *inputs):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    loss = function(*leaves)
    grads = torch.autograd.grad(loss, leaves)
    # A central difference guards the formula against an accidental stop-gradient.
    for which, grad in enumerate(grads):
        direction = torch.cos(torch.arange(len(grad), dtype=torch.float64) + which)
        step = 1e-6
        shifted = [function(*[leaf.detach() + (sign * step * direction if i == which else 0.0)
                              for i, leaf in enumerate(leaves)]) for sign in (1, -1)]
        slope = ((shifted[0] - shifted[1]) / (2 * step)).item()
        assert abs(slope - (grad @ direction).item()) < 1e-5 * max(1.0, abs(slope)), (slope, (grad @ direction).item())
    return loss.item(), [grad.tolist() for grad in grads]


def shaped_reward(rng, index):
    """R_t = -beta (lp_t - ref_t), plus the clipped score at the last answer token."""
    n = answer_length(rng, index)
    beta, clip = (0.1, 5.0) if index < 18 else (float(np.round(rng.uniform(0.01, 0.5), 3)), 2.5)
    logprobs = normal(rng, n, 1.5, -2.5)
    reference = np.round(logprobs + normal(rng, n, 0.7), 6)
    score = round(float(normal(rng, 1, 4.0)[0]) + (0.0, 9.0, -9.0)[index % 3], 6)
    rewards = -beta * (logprobs - reference)
    rewards[-1] += min(max(score, -clip), clip)
    return {"klCoefficient": beta, "rewardClip": clip, "logprobs": logprobs.tolist(),
            "refLogprobs": reference.tolist(), "score": score, "rewards": rewards.tolist()}


def gae(rng, index):
    """delta_t = R_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}, G_t = A_t + V_t; no whitening."""
    n = answer_length(rng, index)
    gamma, lam = (1.0, 0.95) if index < 15 else (float(np.round(rng.uniform(0.9, 1), 3)), (0.0, 0.5, 1.0)[index % 3])
    rewards, values = normal(rng, n, 0.5), normal(rng, n)
    next_values = np.append(values[1:], 0.0)
    delta = rewards + gamma * next_values - values
    # The sum written out, so that the oracle does not share the recursion of an implementation.
    advantages = np.array([sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)])
    return {"gamma": gamma, "lambda": lam, "rewards": rewards.tolist(), "values": values.tolist(),
            "advantages": advantages.tolist(), "returns": (advantages + values).tolist()}


def actor_loss(rng, index):
    """(1/N) sum max(-A ratio, -A clip(ratio, 1 - c, 1 + c)), ratio = exp(new - old)."""
    lengths = answer_lengths(rng, index)
    count = sum(lengths)
    clip = 0.2 if index < 20 else 0.1
    old = normal(rng, count, 1.5, -2.5)
    new = np.round(old + (0.0 if index == 2 else 1.0) * normal(rng, count, 0.35), 6)
    advantages = normal(rng, count)

    def loss(new_logprobs):
        ratio = torch.exp(new_logprobs - torch.tensor(old))
        gain = torch.tensor(advantages)
        return torch.maximum(-gain * ratio, -gain * ratio.clamp(1 - clip, 1 + clip)).mean()

    value, (gradient,) = value_and_gradients(loss, new)
    return {"lengths": lengths, "clip": clip, "newLogprobs": new.tolist(), "oldLogprobs": old.tolist(),
            "advantages": advantages.tolist(), "loss": value, "gradNewLogprobs": gradient}


def critic_loss(rng, index):
    """(1/2N) sum max((V - G)^2, (clip(V, V_old - c, V_old + c) - G)^2)."""
    lengths = answer_lengths(rng, index)
    count = sum(lengths)
    clip = 0.2 if index < 20 else 0.5
    old = normal(rng, count)
    new = np.round(old + (0.0 if index == 2 else 1.0) * normal(rng, count, 0.3), 6)
    returns = np.round(old + normal(rng, count, 0.6), 6)

    def loss(new_values):
        start, target = torch.tensor(old), torch.tensor(returns)
        clipped = torch.minimum(torch.maximum(new_values, start - clip), start + clip)
        return torch.maximum((new_values - target) ** 2, (clipped - target) ** 2).mean() / 2

    value, (gradient,) = value_and_gradients(loss, new)
    return {"lengths": lengths, "clip": clip, "newValues": new.tolist(), "oldValues": old.tolist(),
            "returns": returns.tolist(), "loss": value, "gradNewValues": gradient}


def pairwise_loss(rng, index):
    """mean softplus(-(chosen - rejected)) over the pairs' last-token scores; the last two cases are extreme."""
    pairs = index % 6 + 1
    scale = {CASES - 2: 60.0, CASES - 1: 900.0}.get(index, 2.0)
    chosen, rejected = normal(rng, pairs, scale), normal(rng, pairs, scale)
    # softplus(-x) as -logsigmoid(x): stable at any margin, and never cut to a straight line as torch's softplus is.
    value, grads = value_and_gradients(lambda c, r: -logsigmoid(c - r).mean(), chosen, rejected)
    return {"chosenScores": chosen.tolist(), "rejectedScores": rejected.tolist(), "loss": value,
            "accuracy": float((chosen > rejected).mean()), "gradChosenScores": grads[0],
            "gradRejectedScores": grads[1]}


def dpo_loss(rng, index):
    """z = beta ((pc - rc) - (pr - rr)); mean of -(1 - eps) logsigmoid(z) - eps logsigmoid(-z); rewards beta (p - r)."""
    pairs = index % 6 + 1
    beta = 0.1 if index < 18 else 0.5
    smoothing = 0.0 if index < 15 else (0.05, 0.1, 0.3)[index % 3]
    ref_chosen, ref_rejected = normal(rng, pairs, 15.0, -40.0), normal(rng, pairs, 15.0, -40.0)
    chosen = np.round(ref_chosen + normal(rng, pairs, 8.0), 6)
    rejected = np.round(ref_rejected + normal(rng, pairs, 8.0), 6)

    def loss(policy_chosen, policy_rejected):
        margin = (policy_chosen - torch.tensor(ref_chosen)) - (policy_rejected - torch.tensor(ref_rejected))
        z = beta * margin
        return (-(1 - smoothing) * logsigmoid(z) - smoothing * logsigmoid(-z)).mean()

    value, grads = value_and_gradients(loss, chosen, rejected)
    return {"beta": beta, "labelSmoothing": smoothing, "policyChosen": chosen.tolist(),
            "policyRejected": rejected.tolist(), "refChosen": ref_chosen.tolist(), "refRejected": ref_rejected.tolist(),
            "loss": value, "chosenRewards": (beta * (chosen - ref_chosen)).tolist(),
            "rejectedRewards": (beta * (rejected - ref_rejected)).tolist(), "gradPolicyChosen": grads[0],
            "gradPolicyRejected": grads[1]}


def ema(rng, index):
    """average <- decay average + (1 - decay) weights."""
    n = answer_length(rng, index)
    decay = 0.992 if index < 20 else (0.0, 0.5, 0.9, 0.9999, 1.0)[index - 20]
    average, weights = normal(rng, n), normal(rng, n)
    return {"decay": decay, "average": average.tolist(), "weights": weights.tolist(),
            "updated": (decay * average + (1 - decay) * weights).tolist()}


def assert_covers_both_clip_sides(cases):
    """Every branch of both clipped losses and of the reward clip is taken somewhere."""
    ratio_branches, value_branches, score_branches = set(), set(), set()
    for case in cases["actorLoss"]:
        ratio = np.exp(np.subtract(case["newLogprobs"], case["oldLogprobs"]))
        side = np.where(ratio > 1 + case["clip"], 1, np.where(ratio < 1 - case["clip"], -1, 0))
        ratio_branches |= set(zip(side.tolist(), (np.array(case["advantages"]) > 0).tolist()))
    for case in cases["criticLoss"]:
        new, old, target = (np.array(case[key]) for key in ("newValues", "oldValues", "returns"))
        clipped = np.clip(new, old - case["clip"], old + case["clip"])
        value_branches |= set(zip(np.sign(new - clipped).tolist(), ((clipped - target) ** 2 > (new - target) ** 2)
                                  .tolist()))
    for case in cases["shapedReward"]:
        score_branches.add(-1 if case["score"] < -case["rewardClip"] else int(case["score"] > case["rewardClip"]))
    assert len(ratio_branches) == 6 and score_branches == {-1, 0, 1}
    assert value_branches >= {(side, wins) for side in (-1.0, 1.0) for wins in (True, False)}


def main():
    formulas = {"shapedReward": shaped_reward, "gae": gae, "actorLoss": actor_loss, "criticLoss": critic_loss,
                "pairwiseLoss": pairwise_loss, "dpoLoss": dpo_loss, "ema": ema}
    cases = {}
    for seed, (name, formula) in enumerate(formulas.items()):
        rng = np.random.default_rng(7000 + seed)
        cases[name] = [formula(rng, index) for index in range(CASES)]
    assert_covers_both_clip_sides(cases)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(case, allow_nan=False) for case in rows) + "\n]"
                      for name, rows in cases.items())
    OUT.write_text("{\n" + body + "\n}\n")
    assert json.loads(OUT.read_text()) == cases
    print(f"{OUT.name}: {', '.join(f'{name} {len(rows)}' for name, rows in cases.items())}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
