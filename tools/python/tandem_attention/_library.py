"""Finds and loads libtandem.so: the one that the package was built with, or the one that TANDEM_LIBRARY names."""
import ctypes
import functools
import os
import pathlib
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p

from . import _structs
from .errors import EUNSUPPORTED, TandemError

_PROTOTYPES = {
    "td_create_json": (c_int, [c_char_p, POINTER(c_void_p)]),
    "td_destroy": (None, [c_void_p]),
    "td_describe": (c_int, [c_void_p, c_char_p, c_size_t, POINTER(c_size_t)]),
    "td_seq_create": (c_int, [c_void_p, POINTER(c_uint64)]),
    "td_seq_destroy": (c_int, [c_void_p, c_uint64]),
    "td_seq_fork": (c_int, [c_void_p, c_uint64, c_int64, c_void_p, POINTER(c_uint64)]),
    "td_seq_truncate": (c_int, [c_void_p, c_uint64, c_int64]),
    "td_seq_length": (c_int, [c_void_p, c_uint64, c_int32, POINTER(c_int64)]),
    "td_seq_query": (c_int, [c_void_p, c_uint64, c_int32, POINTER(_structs.SeqInfo)]),
    # Called for every layer of every token, with pointers that were made before: no conversion of arguments.
    "td_append": (c_int, [c_void_p, c_void_p]),
    "td_attend": (c_int, [c_void_p, c_void_p]),
    "td_append_begin": (c_int, [c_void_p, c_void_p, POINTER(c_uint64)]),
    "td_attend_begin": (c_int, [c_void_p, c_void_p, POINTER(c_uint64)]),
    "td_call_wait": (c_int, [c_void_p, c_uint64]),
    "td_call_test": (c_int, [c_void_p, c_uint64, POINTER(c_int32)]),
    "td_timeline_start": (c_int, [c_void_p, c_char_p, c_int64]),
    "td_timeline_stop": (c_int, [c_void_p]),
    "td_set_log": (None, [_structs.LogHook, c_void_p]),
    "td_last_error": (c_char_p, []),
    "td_version": (c_char_p, []),
    "td_abi_version": (c_int, []),
}


def path_of_library() -> pathlib.Path:
    """Where the library is. Throws TandemError when there is none."""
    inside = pathlib.Path(__file__).with_name("libtandem.so")
    if inside.exists():
        return inside
    named = os.environ.get("TANDEM_LIBRARY")
    if not named:
        raise TandemError(f"{inside} does not exist and TANDEM_LIBRARY is not set: install the package with "
                          "'pip install ./tools/python', or set TANDEM_LIBRARY to the libtandem.so of a build",
                          EUNSUPPORTED)
    if not pathlib.Path(named).is_file():
        raise TandemError(f"TANDEM_LIBRARY is '{named}', which is no file", EUNSUPPORTED)
    return pathlib.Path(named)


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded once. Its calls release the interpreter's lock."""
    path = path_of_library()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise TandemError(f"{path} cannot be loaded: {error}", EUNSUPPORTED) from None
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise TandemError(f"{path} has no {name}: it is no libtandem.so, or another version of it", EUNSUPPORTED)
        function.restype, function.argtypes = result, arguments
    if loaded.td_abi_version() != _structs.ABI:
        raise TandemError(f"{path} has version {loaded.td_abi_version()} of the C interface; this package needs "
                          f"{_structs.ABI}", EUNSUPPORTED)
    return loaded


def check(status: int) -> None:
    """Throws TandemError with this thread's last error unless status is TD_OK."""
    if status:
        raise TandemError(library().td_last_error().decode(errors="replace"), status)


def version() -> str:
    return library().td_version().decode()
