"""td_append and td_attend with arguments that are filled in once: run as one call, or in two halves."""
from __future__ import annotations

import ctypes
from ctypes import byref, c_int32, c_uint64
from typing import TYPE_CHECKING, Any, Callable

from ._library import check, library
from .errors import ESTATE, TandemError
from .stats import Stats

if TYPE_CHECKING:
    from .runtime import Runtime


class Call:
    """Made by Runtime.prepare_append() and prepare_attend(). Each run() reads and writes the arrays where they lie and costs
    one C call, so that an engine whose tensors stay where they are, as CUDA graphs need them, prepares its layers once.

    begin() returns when the arguments have been read; from then until wait() returns, the arrays belong to the call. A
    runtime runs begun calls one after another, in their order, on a thread of its own. One thread uses a Call at a time.
    """

    def __init__(self, runtime: Runtime, name: str, arguments: ctypes.Structure, kept: Any,
                 result: Callable[[Stats], Any]):
        self._runtime = runtime
        self._arguments, self._kept = arguments, kept  # what the address below points to
        self._address = ctypes.addressof(arguments)
        self._result = result
        self._run, self._begin = getattr(library(), name), getattr(library(), name + "_begin")
        self._wait = library().td_call_wait
        self._number = c_uint64()

    def run(self) -> None:
        """The whole call. Throws TandemError."""
        self._refuse_while_begun()
        status = self._run(self._runtime.handle, self._address)
        if status:
            check(status)

    def begin(self) -> None:
        """The first half. Throws TandemError for arguments that cannot be read; whatever else is wrong, wait() throws."""
        self._refuse_while_begun()
        status = self._begin(self._runtime.handle, self._address, byref(self._number))
        if status:
            check(status)

    def wait(self) -> None:
        """The second half: returns when the call has ended. Throws TandemError as run() does."""
        number = self._number.value
        if not number:
            raise TandemError("this Call has not been begun, or has been waited for", ESTATE)
        self._number.value = 0
        status = self._wait(self._runtime.handle, number)
        if status:
            check(status)

    def has_ended(self) -> bool:
        """Whether wait() would return at once. Throws TandemError for a call that is not begun."""
        ended = c_int32()
        check(library().td_call_test(self._runtime.handle, self._number.value, byref(ended)))
        return bool(ended.value)

    def result(self) -> Any:
        """What append() or attend() would have returned, of the latest run; the arrays are the same ones each time."""
        self._refuse_while_begun()
        return self._result(Stats.of(self._arguments.stats.contents))

    def _refuse_while_begun(self) -> None:
        if self._number.value:
            raise TandemError("this Call has been begun; wait() for it first", ESTATE)

    def __del__(self) -> None:
        # What is begun still writes to memory that goes with this object; a closed runtime has run it to its end.
        if getattr(self, "_number", None) and self._number.value and self._runtime._rt:
            self._wait(self._runtime._rt, self._number.value)
