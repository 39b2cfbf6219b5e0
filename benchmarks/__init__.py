"""Measure the worker against the method as specified: seconds, memory, traffic and agreement.

    python -m benchmarks              the table of costs (`make bench`)
    python -m benchmarks.gpu          the GPU against the CPU, and every Speed, with real weights
    python -m benchmarks.memory       memory of whole jobs, on large frames and on many
    python -m benchmarks.page         the page in Chromium
    python -m benchmarks.real_sizes   encoder and decoder at the sizes of SAM ViT-B or ViT-H
    python -m benchmarks.repeated     a second run against the first
    python -m benchmarks.scale        a batch of thousands of frames, without a model

These run on Linux only, because they read `/proc`.
"""
