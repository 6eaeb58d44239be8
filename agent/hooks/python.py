# Idle CPython: an imported `sitecustomize` that waits for the program.
#
# The agent has Python run the directory of this file, so that it does not look for the main file
# before the hook has waited. Python asks a module `runpy` (Modules/main.c, pymain_run_module) for a
# function and calls it with two arguments. The module is ours. No frame of Python's may be below the
# program's own, neither in its traces nor in sys._getframe(), so the function is made of what is
# written in C: setattr() calls a property's setter, which is object.__reduce_ex__; that calls the
# method __reduce__, which is exec() with the program. Python's `site` imports `sitecustomize` last.
import sys


class Runpy:
    __slots__ = ()

    def __getattr__(self, name):
        if name != "_run_module_as_main":
            raise AttributeError(name)
        return wait()


def wait():
    import os
    from _functools import partial

    main = sys.modules["__main__"].__dict__
    del sys.modules["runpy"]
    os.environ.pop("PYTHONPATH", None)
    compile("pass", "", "exec")
    save_faults()
    os.write(1, b".")

    def take(length):
        taken = b""
        while len(taken) < length:
            piece = os.read(0, length - len(taken))
            if not piece:
                os._exit(0)
            taken += piece
        return taken

    fields = os.fsdecode(take(int(take(8), 16))).split("\0")
    file = fields[1]
    end = 3 + int(fields[2])
    os.chdir(fields[0])
    sys.argv[:] = [file, *fields[3:end]]
    sys.orig_argv[-1:] = sys.argv
    for field in fields[end:-2]:
        name, _, value = field.partition("=")
        os.environ[name] = value
    here = os.path.dirname(__file__)
    sys.path[:] = [os.path.dirname(file), *(path for path in sys.path if path != here)]
    sys.path_importer_cache.pop(here, None)
    sys.modules.pop("sitecustomize", None)
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", file)
    main.update(__file__=file, __cached__=None, __loader__=loader)
    with open(file, "rb") as source:
        text = source.read()
    try:
        run = partial(exec, compile(text, file, "exec", 0, True), main)
    except (SyntaxError, ValueError):
        run = partial(compile, text, file, "exec", 0, True)
    chain = {"__reduce__": staticmethod(run), "__main__": property(None, object.__reduce_ex__)}
    return partial(setattr, type("Program", (), chain)())


# Where the kernel is emulated a page fault takes two milliseconds, and so does freeing five pages.
# The pages that Python will write are made its own before it waits (MADV_POPULATE_WRITE, 23): those
# of static data and what is left of its heap. At its end Python unmaps its objects' memory piece by
# piece, while that of a process is freed as a whole, and later. So the function that runs last at the
# exit (atexit: the one registered first) replaces the unmapping one in the allocator for arenas
# (PEP 445: a context and two functions) by abs(), which does nothing.
def save_faults():
    try:
        import _ctypes
    except ImportError:
        return
    import atexit
    from _functools import partial

    class Pointer(_ctypes._SimpleCData):
        _type_ = "P"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL
        _restype_ = None

    call, find = _ctypes.call_function, partial(_ctypes.dlsym, _ctypes.dlopen(None, 0))
    with open("/proc/self/maps") as maps:
        lines = [line.split(maxsplit=2) for line in maps]
    for place, access, _ in lines:
        start, end = (int(address, 16) for address in place.split("-"))
        if access == "rw-p" and end - start <= 4 << 20:
            call(find("madvise"), (Pointer(start), Pointer(end - start), 23))
    arenas = bytes(24)
    call(find("PyObject_GetArenaAllocator"), (arenas,))
    arenas = arenas[:16] + find("abs").to_bytes(8, "little")
    atexit.register(Function(find("PyObject_SetArenaAllocator")), arenas)
    del sys.modules["_ctypes"]


sys.modules["runpy"] = Runpy()
