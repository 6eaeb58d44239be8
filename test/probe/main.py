#!/usr/bin/env python3
"""Lists what a program sees of the machine that it runs on, one "name: result" in a line.

    main.py [SECTION...]

The same program runs in a guest with each kernel, and in a fresh Debian root on a host; diff(1)
shows what they do not have in common. A new section is a module beside this one that is imported
here.
"""

import sys

import kernel_calls
import kernel_files
import kernel_memory
import kernel_proc
import kernel_processes
import kernel_sockets
import limits
from registry import PROBES, run

SECTIONS = (
    kernel_calls,
    kernel_files,
    kernel_memory,
    kernel_proc,
    kernel_processes,
    kernel_sockets,
    limits,
)


def main(wanted):
    assert SECTIONS  # importing them has added their probes
    for name in sorted(PROBES):
        if wanted and name.split(".")[0] not in wanted:
            continue
        text = " ".join(run(PROBES[name]).split())
        print(f"{name}: {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
