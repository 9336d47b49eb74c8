# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Times what PyTorch calls (cuDNN's best convolution, cuBLASLt's products) on the problems of kernel_bench, in the same way: FP16,
channels-last, a CUDA graph of dependent calls, events, the median of several replays. The convolution alone: no bias, no activation.

cudnn_rival.py bench/gpu/problems.txt OUT.jsonl [--network NAME] [--against KERNELS.jsonl] [--summary FILE.json] [--reuse]
--against prints both side by side, with the summed ratio of each network; --summary writes them as one file of bench/results. --reuse takes
the rival's times from OUT.jsonl instead of measuring them."""

import argparse
import json


def timed(call, calls, replays=11):
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()
    times = []
    for _ in range(replays + 1):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) * 1000 / calls)
    return sorted(times[1:])[replays // 2]


def convolution(fields):
    import torch

    n, h, w, cin, cout, kh, kw, sh, sw, pt, pl, pb, pr, dh, dw, groups = fields
    x = torch.randn(n, cin, h, w, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
    weight = torch.randn(cout, cin // groups, kh, kw, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
    flops = 2 * n * ((h + pt + pb - dh * (kh - 1) - 1) // sh + 1) * ((w + pl + pr - dw * (kw - 1) - 1) // sw + 1) * cout * cin // groups * kh * kw
    return (lambda: torch.nn.functional.conv2d(x, weight, None, (sh, sw), (pt, pl), (dh, dw), groups)), flops


def product(fields, b_kind):
    import torch

    outer, inner, rows, columns, depth = fields
    a = torch.randn(outer * inner, rows, depth, device="cuda", dtype=torch.half)
    if b_kind == "kn":
        b = torch.randn(outer * inner, depth, columns, device="cuda", dtype=torch.half)
    else:
        b = torch.randn(1 if b_kind == "packed" else outer * inner, columns, depth, device="cuda", dtype=torch.half).transpose(1, 2)
    flops = 2 * outer * inner * rows * columns * depth
    if b_kind == "packed":
        bias = torch.randn(columns, device="cuda", dtype=torch.half)
        return (lambda: torch.nn.functional.linear(a[0], b[0].t(), bias)), flops
    return (lambda: torch.bmm(a, b)), flops


def read_lines(path):
    with open(path) as file:
        return [line.strip() for line in file if line.strip()]


def measure(options, lines):
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0
    device = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    print(*device.values())
    times = {}
    with open(options.out, "w") as out:
        out.write(json.dumps(device) + "\n")
        for line in lines:
            words = line.split()
            with torch.inference_mode():
                call, flops = product(list(map(int, words[3:8])), words[8]) if words[0] == "matmul" else convolution(list(map(int, words[2:])))
                times[line] = round(timed(call, 4 if flops > 3e10 else 20), 3)
            out.write(json.dumps({"problem": line, "us": times[line]}) + "\n")
    return device, times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("problems")
    parser.add_argument("out")
    parser.add_argument("--network")
    parser.add_argument("--against")
    parser.add_argument("--summary")
    parser.add_argument("--reuse", action="store_true")
    options = parser.parse_args()
    lines = [line for line in read_lines(options.problems) if not line.startswith("#")]
    if options.network:
        lines = [line for line in lines if options.network in line.split()[:2]]
    if options.reuse:
        records = [json.loads(line) for line in read_lines(options.out)]
        device, times = records[0], {record["problem"]: record["us"] for record in records[1:]}
    else:
        device, times = measure(options, lines)
    if not options.against:
        return
    own = {record["problem"]: record for record in map(json.loads, read_lines(options.against))}
    sums, problems = {}, []
    for line in lines:
        if line not in own or line not in times:
            continue
        record, rival = own[line], times[line]
        problems.append({**record, "cudnn_us": rival})
        total = sums.setdefault(record["network"], {"own_us": 0.0, "own_cold_us": 0.0, "cudnn_us": 0.0, "floor_us": 0.0})
        for key, value in (("own_us", record["us"]), ("own_cold_us", record["cold_us"]), ("cudnn_us", rival), ("floor_us", record["floor_us"])):
            total[key] += record["count"] * value
        print(f"{line:<78} own {record['us']:8.2f} rival {rival:8.2f} floor {record['floor_us']:7.2f}  {rival / record['us']:.2f}  {record['plan']}")
    for network, total in sums.items():
        total.update({key: round(value, 1) for key, value in total.items()})
        total["ratio"] = round(total["cudnn_us"] / total["own_us"], 3)
        print(f"SUM {network}: {total}")
    if options.summary:
        head = {
            **device,
            "what": "microseconds per call, FP16, CUDA graphs of dependent calls; own kernels with bias and SiLU (products: bias), cudnn: the convolution or product alone",
            "command": "kernel_bench --time bench/gpu/problems.txt --plans 24 (8 for networks of batch 32) --json own.jsonl; cudnn_rival.py bench/gpu/problems.txt rival.jsonl --against own.jsonl --summary FILE",
        }
        with open(options.summary, "w") as out:
            body = ",\n  ".join(json.dumps(problem) for problem in problems)
            networks = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(total)}" for name, total in sums.items())
            out.write(f'{{"about": {json.dumps(head)},\n"networks": {{\n  {networks}}},\n"problems": [\n  {body}]}}\n')


if __name__ == "__main__":
    main()
