"""The rungs of bench_ladder in PyTorch, on the same GPU and at the same shapes.

    bench_ladder --module build/Release/threefold_cuda.so > ladder.jsonl
    python3 bench/peers/torch_ladder.py ladder.jsonl

Reads the ladder's lines and prints, for each whose kernel PyTorch has as one or a few calls, {kernel, model, shape, seconds,
how}: the median of 7 samples, launches of a sample between two events. bf16, as the ladder.
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

device = "cuda" if torch.cuda.is_available() else "cpu"
SAMPLE_SECONDS = 0.02


def numbers(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device=device).uniform_(-1, 1)


def ids(n, vocab):
    return torch.arange(n, device=device) * 7919 % vocab


def matmul(s):
    # decoding finds its weights in memory, not in a cache: several copies in turn, as the ladder
    m, n, k = s["M"], s["N"], s["K"]
    copies = max(1, (256 << 20) // (2 * n * k)) if m <= 256 and device == "cuda" else 1
    x, ws, bias = numbers(m, k), [numbers(n, k) for _ in range(copies)], numbers(n)
    turn = iter(range(1 << 60))
    return "F.linear", lambda: F.linear(x, ws[next(turn) % copies], bias)


def matmul_fp32(s):
    x, w = numbers(s["M"], s["K"], dtype=torch.float32), numbers(s["N"], s["K"], dtype=torch.float32)
    return "matmul, TF32 off", lambda: x @ w.t()


def matmul_dx(s):
    dout, w = numbers(s["M"], s["K"]), numbers(s["K"], s["N"])
    return "matmul", lambda: dout @ w


def matmul_dw(s):
    dout, x = numbers(s["K"], s["M"]), numbers(s["K"], s["N"])
    return "matmul, bf16 out, not accumulated", lambda: dout.t() @ x


def heads(s, tokens):
    return [numbers(s["B"], s["N"], tokens, s["D"]) for _ in range(3)]


def attention_forward(s):
    q, k, v = heads(s, s["T"])
    return "scaled_dot_product_attention", lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention_backward(s):
    q, k, v = (t.requires_grad_() for t in heads(s, s["T"]))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    dout = torch.rand_like(out)
    return "its backward", lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)


def attention_decode(s):
    q = numbers(s["B"], s["N"], 1, s["D"])
    _, k, v = heads(s, s["keys"])
    return "scaled_dot_product_attention, one query, no pages", lambda: F.scaled_dot_product_attention(q, k, v)


def norm_forward(s):
    x, w, b = numbers(s["T"], s["H"]), numbers(s["H"]), numbers(s["H"])
    return "F.layer_norm", lambda: F.layer_norm(x, (s["H"],), w, b)


def norm_backward(s):
    x, w, b = (numbers(*shape).requires_grad_() for shape in ((s["T"], s["H"]), (s["H"],), (s["H"],)))
    out = F.layer_norm(x, (s["H"],), w, b)
    dout = torch.rand_like(out)
    return "its backward", lambda: torch.autograd.grad(out, (x, w, b), dout, retain_graph=True)


def activation_forward(s):
    gate, up = numbers(s["T"], s["F"]), numbers(s["T"], s["F"])
    return "F.silu(gate) * up", lambda: F.silu(gate) * up


def embedding_forward(s):
    table, rows = numbers(s["V"], s["H"]), ids(s["T"], s["V"])
    return "F.embedding", lambda: F.embedding(rows, table)


def gather_rows(s):
    x, rows = numbers(s["R"], s["H"]), torch.arange(s["R"] - 1, -1, -1, device=device)
    return "index_select", lambda: x.index_select(0, rows)


def logprob_forward(s):
    x, w, targets = numbers(s["R"], s["H"]), numbers(s["V"], s["H"]), ids(s["R"], s["V"])
    return "cross_entropy(F.linear)", lambda: F.cross_entropy(F.linear(x, w), targets, reduction="none")


def logprob_backward(s):
    x, w = numbers(s["R"], s["H"]).requires_grad_(), numbers(s["V"], s["H"]).requires_grad_()
    loss = F.cross_entropy(F.linear(x, w), ids(s["R"], s["V"]))
    return "its backward, logits kept", lambda: torch.autograd.grad(loss, (x, w), retain_graph=True)


def sample(s):
    logits = numbers(s["B"], s["V"], dtype=torch.float32)
    return "multinomial(softmax)", lambda: torch.multinomial(torch.softmax(logits, -1), 1)


def gradient_control(s):
    x = numbers(s["n"], dtype=torch.float32)
    return "vector_norm", lambda: torch.linalg.vector_norm(x)


def adamw(s):
    p = torch.nn.Parameter(numbers(s["n"], dtype=torch.float32))
    p.grad = numbers(s["n"], dtype=torch.float32)
    optimizer = torch.optim.AdamW([p], lr=1e-6, fused=True)
    return "AdamW(fused), fp32, no bf16 copy", optimizer.step


def column_sum(s):
    x = numbers(s["T"], s["N"])
    return "sum(0)", lambda: x.sum(0)


def copy(s):
    x, y = numbers(s["n"]), numbers(s["n"])
    return "copy_", lambda: y.copy_(x)


def cast(s):
    x, y = numbers(s["n"], dtype=torch.float32), numbers(s["n"])
    return "copy_", lambda: y.copy_(x)


def add(s):
    x, y, out = (numbers(s["n"]) for _ in range(3))
    return "add", lambda: torch.add(x, y, out=out)


def ema(s):
    x, y = (numbers(s["n"], dtype=torch.float32) for _ in range(2))
    return "lerp_", lambda: x.lerp_(y, 1 - 0.992)


def fill(s):
    x = numbers(s["n"], dtype=torch.float32)
    return "fill_", lambda: x.fill_(1)


def seconds_of(start, launches):
    if device == "cpu":
        begin = time.perf_counter()
        for _ in range(launches):
            start()
        return time.perf_counter() - begin
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(launches):
        start()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def measure(start):
    seconds_of(start, 1)
    once = seconds_of(start, 1)
    launches = max(1, min(2000, int(SAMPLE_SECONDS / max(once, 1e-9))))
    return statistics.median(seconds_of(start, launches) / launches for _ in range(7))


def main():
    if len(sys.argv) != 2:
        sys.exit("[torch ladder] expected the lines of bench_ladder in a file, received none. Try torch_ladder.py ladder.jsonl.")
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(sys.argv[1]) as lines:
        rungs = [json.loads(line) for line in lines if line.startswith("{")]
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "device": torch.cuda.get_device_name() if device == "cuda" else device}))
    for rung in rungs:
        make = globals().get(rung["kernel"])
        if make is None or "=" not in rung["shape"]:
            continue
        line = {key: rung[key] for key in ("kernel", "model", "shape")}
        try:
            sizes = {name: int(size) for name, size in (part.split("=") for part in rung["shape"].split())}
            how, start = make(sizes)
            line.update(seconds=measure(start), how=how)
        except Exception as error:  # out of memory, or a call this PyTorch lacks: the other rungs still count
            line["error"] = str(error).split("\n")[0]
        print(json.dumps(line), flush=True)
        start = None
        if device == "cuda":
            torch.cuda.empty_cache()


main()
