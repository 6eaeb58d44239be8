"""What a probe is: a function that finds out one thing about the machine that it runs on.

A probe returns a word or a few, the same in each run on the same machine. What it raises becomes
its result: an OSError the name of its errno, another error its type.
"""

import ctypes
import errno
import os
import signal

PROBES = {}
# Longest time in seconds that a probe may take; one that waits for ever gives no answer,
# and on a host that emulates kernels a process takes long to begin.
LIMIT = 300
LIBC = ctypes.CDLL(None, use_errno=True)


def probe(name):
    """Adds the function as the probe `name`; a dot ends the name of its section."""

    def add(function):
        if name in PROBES:
            raise ValueError(f"two probes are called {name}")
        PROBES[name] = function
        return function

    return add


def syscall(number, *arguments):
    """Result of a system call by its number of x86-64; raises OSError."""
    values = [
        ctypes.c_long(a) if isinstance(a, int) else a for a in arguments
    ]
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(number), *values)
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def in_child(function):
    """Runs the function in a process of its own, and gives its result: what it changes is lost."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.write(writer, answer(function).encode())
        finally:
            os._exit(0)  # whatever happens: the rest of the program is the parent's
    os.close(writer)
    with open(reader, "rb") as stream:
        text = stream.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return text


def answer(function):
    """The text for what a function returns or raises."""
    try:
        result = function()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:  # whatever it is, it is the answer
        return type(error).__name__
    if result is None or result is True:
        return "yes"
    if result is False:
        return "no"
    return str(result)


def run(function):
    """As answer(), within LIMIT seconds."""

    def late(_signal, _frame):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        return answer(function)
    finally:
        signal.alarm(0)
