"""What transformers' logits processors leave to draw from: fixtures/formulas/warpers.json."""

import json
from pathlib import Path

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "formulas" / "warpers.json"
CASES = [
    dict(), dict(temperature=0.5), dict(topK=3), dict(topP=0.6), dict(minP=0.2), dict(topK=6, topP=0.8, minP=0.1, temperature=1.7),
    dict(repetitionPenalty=1.8), dict(repetitionPenalty=0.6, topK=4), dict(logitBias={"2": 3.0, "7": -2.5}),
    dict(logitBias={"0": 1.5}, repetitionPenalty=2.0, temperature=0.8, topP=0.9, minP=0.05),
]


def probabilities(logits, ids, case):
    """In the order in which generate() applies them."""
    steps = LogitsProcessorList()
    if "logitBias" in case:
        steps.append(SequenceBiasLogitsProcessor([[[int(i)], b] for i, b in case["logitBias"].items()]))
    if "repetitionPenalty" in case:
        steps.append(RepetitionPenaltyLogitsProcessor(case["repetitionPenalty"]))
    if "temperature" in case:
        steps.append(TemperatureLogitsWarper(case["temperature"]))
    if "topK" in case:
        steps.append(TopKLogitsWarper(case["topK"]))
    if "topP" in case:
        steps.append(TopPLogitsWarper(case["topP"]))
    if "minP" in case:
        steps.append(MinPLogitsWarper(case["minP"]))
    return steps(ids[None], logits[None]).softmax(-1)[0]


def main():
    generator = torch.Generator().manual_seed(7)
    cases = []
    for index, case in enumerate(CASES):
        logits = (torch.randn(11, generator=generator) * 1.5).float()
        ids = torch.randint(11, (5,), generator=generator)
        cases.append({"options": case, "logits": logits.tolist(), "seen": ids.tolist(),
                      "probabilities": probabilities(logits.double(), ids, case).tolist()})
        kept = sum(p > 0 for p in cases[-1]["probabilities"])
        print(f"case {index}: {kept} of 11 tokens left, {case}")
    OUT.write_text(json.dumps({"cases": cases}) + "\n")
    assert json.loads(OUT.read_text())["cases"] == cases


if __name__ == "__main__":
    main()
