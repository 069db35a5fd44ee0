"""What the card gives torch: copies, bf16 products at the models' shapes by cuBLAS, attention by SDPA.

Random inputs, rotated past the second-level cache; medians of CUDA-event times. One line each.
"""

import statistics

import torch

TOKENS = 16384


def median_seconds(call, rounds=20):
    for _ in range(3):
        call(0)
    times = []
    for i in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call(i)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def noise(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def main():
    print(torch.__version__, torch.cuda.get_device_name(), torch.cuda.driver_version() if hasattr(torch.cuda, "driver_version") else "")
    a, b = torch.empty(2, 1 << 29, dtype=torch.uint8, device="cuda").unbind()
    t = median_seconds(lambda i: a.copy_(b))
    print(f"copy {2 * a.numel() / t / 1e12:.3f} TB/s")
    shapes = {"square": (8192, 8192, 8192)}
    for name, width, inner, qkv in [("pythia-1.4b", 2048, 8192, 6144), ("llama-3.2-1b", 2048, 8192, 3072), ("llama-3.1-8b", 4096, 14336, 6144)]:
        shapes |= {
            f"{name} qkv": (TOKENS, qkv, width),
            f"{name} out": (TOKENS, width, width),
            f"{name} up": (TOKENS, inner, width),
            f"{name} down": (TOKENS, width, inner),
        }
    for name, (m, n, k) in shapes.items():
        xs, w = [noise(m, k) for _ in range(3)], noise(n, k)
        t = median_seconds(lambda i: torch.nn.functional.linear(xs[i % 3], w))
        print(f"{name} {m} x {n} x {k}: {2 * m * n * k / t / 1e12:.1f} TFLOP/s")
    for heads, width in [(16, 128), (32, 64), (32, 128)]:
        q, k, v = (noise(TOKENS // 512, heads, 512, width) for _ in range(3))
        t = median_seconds(lambda i: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        print(f"sdpa causal 512, {heads} heads of {width}: {2 * TOKENS * 512 * heads * width / t / 1e12:.1f} TFLOP/s")


main()
