"""Learning-rate multipliers of transformers.get_scheduler.

Writes test/fixtures/formulas/schedules.json: {baseLr, cases: [{name, warmupSteps, totalSteps, numCycles?, lrEnd?,
power?, multipliers}]}; multipliers[k] times baseLr is the rate that optimizer step k (counted from 0) uses,
k = 0 .. max(totalSteps, warmupSteps) + 2.
"""

import json
from pathlib import Path

import torch
from transformers import get_scheduler

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "formulas" / "schedules.json"
BASE_LR = 1e-3
NAMES = ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"]
STEPS = [(0, 1), (0, 10), (1, 2), (2, 7), (3, 10), (5, 20), (10, 10), (15, 10), (25, 20), (0, 33), (4, 33)]


def multipliers(name, warmup, total, options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE_LR)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total,
                              scheduler_specific_kwargs=options or None)
    values = []
    for step in range(max(warmup, total) + 3):
        # The lambda gives the multiplier without the rounding of a division by the base rate.
        values.append(float(scheduler.lr_lambdas[0](step)))
        assert abs(optimizer.param_groups[0]["lr"] - BASE_LR * values[-1]) <= 1e-18
        optimizer.step()
        scheduler.step()
    return values


def main():
    cases = []
    for name in NAMES:
        options = {"cosine": {"num_cycles": 0.5}, "polynomial": {"lr_end": 1e-7, "power": 1.0}}.get(name, {})
        variants = [{"num_cycles": 1}, {"num_cycles": 3}] if name == "cosine_with_restarts" else [options]
        for warmup, total in STEPS:
            # transformers divides by zero at step == total here.
            if name == "polynomial" and warmup == total:
                continue
            for variant in variants:
                renamed = {{"num_cycles": "numCycles", "lr_end": "lrEnd", "power": "power"}[key]: value
                           for key, value in variant.items()}
                cases.append({"name": name, "warmupSteps": warmup, "totalSteps": total, **renamed,
                              "multipliers": multipliers(name, warmup, total, variant)})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(f'{{"baseLr": {BASE_LR}, "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
    assert json.loads(OUT.read_text())["cases"] == cases
    print(f"{OUT.name}: {len(cases)} schedules, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
