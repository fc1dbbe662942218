"""DPO on whole models in float64: log-probs of answers, loss and gradients of two fixtures of models.py by transformers and torch.

Writes test/fixtures/formulas/preferences.json. A case is a batch of pairs with made-up log-probs of a reference; its
losses are the published ones (DPO, cDPO, SLiC's hinge, IPO on sums and on means per token).
"""

import copy
import json
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid, relu
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from exact_float64 import exact_float64
from models import FIXTURE_FOLDER, token_logprobs

OUT = FIXTURE_FOLDER.parent / "formulas" / "preferences.json"
HINGE_BETA = 0.6
LOSSES = [
    dict(lossType="sigmoid", beta=0.1, labelSmoothing=0.0, lengthNormalize=False),
    dict(lossType="sigmoid", beta=0.5, labelSmoothing=0.2, lengthNormalize=False),
    dict(lossType="sigmoid", beta=2.0, labelSmoothing=0.0, lengthNormalize=True),
    dict(lossType="hinge", beta=HINGE_BETA, labelSmoothing=0.0, lengthNormalize=False),
    dict(lossType="ipo", beta=0.1, labelSmoothing=0.0, lengthNormalize=False),
    dict(lossType="ipo", beta=0.3, labelSmoothing=0.0, lengthNormalize=True),
]
# prompt, chosen answer, rejected answer, in tokens
LENGTHS = [(5, 4, 6), (1, 1, 9), (12, 7, 3), (3, 2, 2), (8, 5, 1)]


def loss_of(chosen, rejected, reference, lossType, beta, labelSmoothing):
    margin = (chosen - reference[0]) - (rejected - reference[1])
    z = beta * margin
    if lossType == "hinge":
        return relu(1 - z).mean()
    if lossType == "ipo":
        return ((margin - 1 / (2 * beta)) ** 2).mean()
    return (-(1 - labelSmoothing) * logsigmoid(z) - labelSmoothing * logsigmoid(-z)).mean()


def case(name, seed):
    generator = torch.Generator().manual_seed(seed)
    stock = AutoModelForCausalLM.from_pretrained(FIXTURE_FOLDER / name, dtype=torch.float32, attn_implementation="eager").eval()
    vocabulary = stock.config.vocab_size
    pairs = [[torch.randint(4, vocabulary, (n,), generator=generator) for n in lengths] for lengths in LENGTHS]
    with exact_float64():
        model = AutoModelForCausalLM.from_config(copy.deepcopy(stock.config), attn_implementation="eager").double().eval()
        model.load_state_dict({key: weight.double() for key, weight in stock.state_dict().items()})

        def answers():
            return [torch.stack([token_logprobs(model, torch.cat((pair[0], pair[which])))[1][len(pair[0]):].sum() for pair in pairs])
                    for which in (1, 2)]

        with torch.no_grad():
            policy = answers()
        noise = [torch.randn(len(pairs), generator=generator).double() for _ in range(2)]
        reference = [torch.round(1e4 * (p + 3 * e)) / 1e4 for p, e in zip(policy, noise)]
        results = []
        for options in LOSSES:
            model.zero_grad(set_to_none=True)
            tokens = [torch.tensor([float(len(pair[which])) for pair in pairs]).double() if options["lengthNormalize"] else 1.0
                      for which in (1, 2)]
            numbers = {key: value for key, value in options.items() if key != "lengthNormalize"}
            loss = loss_of(*(a / n for a, n in zip(answers(), tokens)), [r / n for r, n in zip(reference, tokens)], **numbers)
            loss.backward()
            weights = {key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None}
            results.append({**options, "loss": loss.item(), "gradNorm": torch.sqrt(sum((g ** 2).sum() for g in weights.values())).item(),
                            "grads": {key: [float(f"{x:.9g}") for x in g.tolist()] for key, g in weights.items() if g.ndim == 1 and "layers.0" in key}})
    rows = [{"prompt": p.tolist(), "chosen": c.tolist(), "rejected": r.tolist()} for p, c, r in pairs]
    return {"model": name, "pairs": rows, "policyChosen": policy[0].tolist(), "policyRejected": policy[1].tolist(),
            "refChosen": reference[0].tolist(), "refRejected": reference[1].tolist(), "losses": results}


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    cases = [case("opt-tiny", 11), case("llama-odd", 12)]
    # each branch of the hinge is taken, or its gradient would prove nothing
    for one in cases:
        z = [HINGE_BETA * (pc - rc - pr + rr) for pc, rc, pr, rr in zip(*(one[k] for k in ("policyChosen", "refChosen", "policyRejected", "refRejected")))]
        assert any(x > 1 for x in z) and any(x < 1 for x in z), z
    OUT.write_text("[\n" + ",\n".join(json.dumps(one, allow_nan=False) for one in cases) + "\n]\n")
    assert json.loads(OUT.read_text()) == cases
    print(f"{OUT.name}: {', '.join(one['model'] for one in cases)}, {len(LOSSES)} losses each, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
