"""Keeps the memory that training frees and takes again from being returned to the system.

glibc gives a large block back to the kernel as soon as it is freed, and the next block of that
size costs a page fault for every 4 KiB when it is first touched. A training step on a CPU frees and
takes again all of its activations, which can double its time. With the thresholds below the blocks
stay with the process. `mallopt(3)` of the Linux manual documents both.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD = -1  # parameter numbers of <malloc.h>
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 2**30  # bytes; blocks above it are still given back at once
_LARGEST_TRIM_THRESHOLD = 2**31 - 1  # bytes; the largest value that mallopt takes


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory. Call it before the first large allocation.

    Returns:
        Whether it was done; False where the C library is another, and then nothing has changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD),
    ]
    return all(done)
