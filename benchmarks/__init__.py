"""The method as specified against the worker, side by side: seconds, memory, traffic, and whether the results agree.

    python -m benchmarks              the table of costs (`make bench`)
    python -m benchmarks.memory       memory of whole jobs, on large frames and on many
    python -m benchmarks.real_sizes   encoder and decoder at the sizes of SAM ViT-B or ViT-H

On Linux, for the memory is read from /proc.
"""
