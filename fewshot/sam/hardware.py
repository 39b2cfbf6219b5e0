"""The processor, the GPU and the memory of this machine, on Linux.

This module does not need torch.
"""

import ctypes
import os
from pathlib import Path

PROC = Path('/proc')

# Parameters of `mallopt` of the GNU C library, and their values
M_TRIM_THRESHOLD, KEPT_BYTES = -1, 256 * 2**20
M_MMAP_THRESHOLD, MAPPED_BYTES = -3, 32 * 2**20


def has_processor_bfloat16(cpu_info: Path = PROC / 'cpuinfo') -> bool:
    """Return whether the processor multiplies bfloat16 in hardware.

    Parameters
    ----------
    cpu_info : Path
        The file in which Linux lists what the processor can do.
    """
    flags = cpu_info.read_text() if cpu_info.exists() else ''
    return 'avx512_bf16' in flags or 'amx_bf16' in flags


def name_hardware(proc: Path = PROC, devices: Path = Path('/dev')) -> str:
    """Return a name that two machines share only if bfloat16 means the same on both.

    Parameters
    ----------
    proc, devices : Path
        The folders `/proc` and `/dev`. NVIDIA's driver lists its GPUs there.

    Returns
    -------
    str
        The models of the GPUs, or whether the processor has bfloat16.
    """
    models = set()
    for file in proc.glob('driver/nvidia/gpus/*/information'):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(':')
            if key == 'Model':
                models.add(value.strip())
    if models:
        return ', '.join(sorted(models))
    if any(devices.glob('nvidia[0-9]*')):
        return 'GPU'
    has_bfloat16 = has_processor_bfloat16(proc / 'cpuinfo')
    return f'processor {"with" if has_bfloat16 else "without"} bfloat16'


def keep_freed_memory() -> None:
    """Let the process keep freed memory, for the next tensors.

    By default it can go back to the system at the end of each step and come again with the next
    one, page by page. The decoder then takes 1.7 times as long. The process keeps at most
    KEPT_BYTES of the last part of its memory. Arrays of more than MAPPED_BYTES go back at once.
    Without the GNU C library, nothing changes.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, 'mallopt'):
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def release_freed_memory() -> None:
    """Give freed memory back to the system, also from between what is in use.

    Called between frames or tiles, it prevents that gaps between long-lived arrays add up. Without
    the GNU C library, nothing changes.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, 'malloc_trim'):
        library.malloc_trim(0)


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other. Call it before torch is imported.

    By default they keep their cores busy, and several jobs on one processor slow down each other:
    two jobs on two cores took more than 150 s each, and 63 s with sleeping threads. One job alone
    takes the same time. A policy that the environment sets is kept.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
