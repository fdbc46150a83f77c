"""Read by every Python process that is started with this folder on PYTHONPATH: its clock can be stepped by a test.

`CHAOS_CLOCK` names a file of 8 bytes, the milliseconds by which `time.time` and `time.time_ns` are ahead. The
monotonic clock goes on, as it does where an administrator or NTP steps a machine's clock.
"""

import mmap
import os
import struct
import time

path = os.environ.get("CHAOS_CLOCK")
if path:
    with open(path, "rb") as file:
        ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true_ns = time.time_ns

    def time_ns() -> int:
        """The time in ns by the stepped clock."""
        return true_ns() + struct.unpack("<q", ahead)[0] * 1_000_000

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
