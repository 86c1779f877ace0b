"""Arrays of other libraries as td_tensor, without importing any of them: torch tensors by their data_ptr, numpy arrays by
their interface, everything else by DLPack."""
import ctypes
import sys
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any, NamedTuple

from . import _structs
from .errors import TandemError

_DTYPES = {"float32": _structs.F32, "float16": _structs.F16, "bfloat16": _structs.BF16}
_BYTES = {_structs.F32: 4, _structs.F16: 2, _structs.BF16: 2}


class ArrayView(NamedTuple):
    """An array in host memory or on a GPU. `owner` keeps its memory alive; strides are in bytes."""
    data: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: str  # "cpu", or "cuda:N"
    owner: Any
    read_only: bool = False


def is_torch(array: Any) -> bool:
    return hasattr(array, "data_ptr") and hasattr(array, "stride")


def view_of(name: str, array: Any) -> ArrayView:
    """The memory of an array. Throws TandemError when it is of no kind that is known, on a device that is not, or in
    the byte order of other machines."""
    if is_torch(array):
        device = array.device
        if device.type not in ("cpu", "cuda"):
            raise TandemError(f"{name} is on {device}; allowed: cpu, cuda")
        size = array.element_size()
        return ArrayView(array.data_ptr(), tuple(array.shape), tuple(size * s for s in array.stride()),
                         str(array.dtype).removeprefix("torch."), "cpu" if device.type == "cpu" else str(device), array)
    interface = getattr(array, "__array_interface__", None)
    if interface is not None:
        if not array.dtype.isnative:
            raise TandemError(f"{name} has dtype {array.dtype.str}; its bytes must be in this machine's order "
                              f"({sys.byteorder} endian)")
        address, read_only = interface["data"]
        return ArrayView(address, tuple(array.shape), tuple(array.strides), array.dtype.name, "cpu", array, read_only)
    if hasattr(array, "__dlpack__"):
        return _view_of_dlpack(name, array)
    raise TandemError(f"{name} is a {type(array).__name__}; allowed: a torch tensor, a numpy array, or what has __dlpack__")


def tensor_of(name: str, array: Any) -> tuple[_structs.Tensor, ArrayView]:
    """(tokens, heads, dim) as td_tensor, and the view that keeps it alive. Throws TandemError naming `name`."""
    view = view_of(name, array)
    if len(view.shape) != 3:
        raise TandemError(f"{name} has shape {view.shape}; it must be (tokens, heads, dim)")
    if view.dtype not in _DTYPES:
        raise TandemError(f"{name} has dtype {view.dtype}; allowed: {', '.join(_DTYPES)}")
    dtype = _DTYPES[view.dtype]
    if view.shape[2] > 1 and view.strides[2] != _BYTES[dtype]:
        raise TandemError(f"{name} has a last dimension with a stride of {view.strides[2]} bytes; it must be contiguous")
    memory = _structs.MEMORY_HOST if view.device == "cpu" else _structs.MEMORY_DEVICE
    return _structs.Tensor(view.data if all(view.shape) else None, view.shape, view.strides[:2], dtype, memory), view


def floats_of(name: str, array: Any, count: int) -> ArrayView:
    """`count` dense float32 values in host memory. Throws TandemError naming `name`."""
    view = view_of(name, array)
    size = 1
    for extent in view.shape:
        size *= extent
    if view.dtype != "float32" or view.device != "cpu" or size != count:
        raise TandemError(f"{name} has dtype {view.dtype}, shape {view.shape} and device {view.device}; it must be "
                          f"{count} values of float32 in host memory")
    if any(extent > 1 and stride != dense for extent, stride, dense in zip(view.shape, view.strides, _dense_strides(view.shape, 4))):
        raise TandemError(f"{name} is not contiguous")
    return view


# ---- DLPack: its structs, as dlpack.h has them since 0.2 -------------------------------------------------------------
class _DLTensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
                ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)),
                ("strides", POINTER(c_int64)), ("byte_offset", c_uint64)]


_DL_DTYPES = {(2, 32): "float32", (2, 16): "float16", (4, 16): "bfloat16"}
_DL_DEVICES = {1: "cpu", 2: "cuda", 3: "cpu", 13: "cuda"}  # CPU, CUDA, pinned host memory, managed memory

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]


def _dense_strides(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    strides: list[int] = []
    for extent in reversed(shape):
        strides.insert(0, size)
        size *= extent
    return tuple(strides)


def _view_of_dlpack(name: str, array: Any) -> ArrayView:
    try:
        capsule = array.__dlpack__()  # not consumed: its destructor gives the memory back
    except BufferError as error:
        raise TandemError(f"{name} cannot be read by DLPack: {error}") from None
    tensor = ctypes.cast(_capsule_pointer(capsule, b"dltensor"), POINTER(_DLTensor)).contents
    if tensor.device_type not in _DL_DEVICES:
        raise TandemError(f"{name} is on the DLPack device type {tensor.device_type}; allowed: CPU (1), CUDA (2)")
    kind = _DL_DEVICES[tensor.device_type]
    shape = tuple(tensor.shape[: tensor.ndim])
    size = tensor.bits // 8
    strides = tuple(size * s for s in tensor.strides[: tensor.ndim]) if tensor.strides else _dense_strides(shape, size)
    unknown = f"code {tensor.code}, {tensor.bits} bits x {tensor.lanes}"
    dtype = _DL_DTYPES.get((tensor.code, tensor.bits), unknown) if tensor.lanes == 1 else unknown
    return ArrayView((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype,
                     kind if kind == "cpu" else f"cuda:{tensor.device_id}", capsule)
