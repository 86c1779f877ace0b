"""The structs of tandem.h, field by field. tests/engines/structs_test.py compares sizes and offsets with the header's."""
import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any, Sequence, TypeVar

ABI = 1
F32, F16, BF16, INT8, K8V4 = range(5)
PART_STATIC, PART_DYNAMIC, PART_ALL, EXACT = 1, 2, 3, 4
MEMORY_HOST, MEMORY_DEVICE = 0, 1
STAGES = ("append", "evict", "index", "window", "select", "attend", "merge")


class Tensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("shape", c_int64 * 3), ("stride", c_int64 * 2), ("dtype", c_int32),
                ("memory", c_int32)]


class SeqInfo(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("reserved", c_int32), ("length", c_int64), ("window_rows", c_int64),
                ("host_rows", c_int64), ("kv_bytes", c_int64), ("index_bytes", c_int64), ("index_build_us", c_double),
                ("coded_rows", c_int64), ("dropped_rows", c_int64), ("window_bytes", c_int64), ("window_entries", c_int64)]


class Stats(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("num_workers", c_int32), ("us", c_double * len(STAGES)),
                ("bytes", c_int64 * len(STAGES)), ("total_us", c_double), ("rows_window", c_int64), ("rows_host", c_int64),
                ("rows_gathered", c_int64), ("keys_attended", c_int64), ("keys_visible", c_int64), ("lse_error", c_double),
                ("out_error", c_double), ("uncertified", c_int64), ("rows_dropped", c_int64), ("bytes_streamed", c_int64)]


class AppendArgs(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("layer", c_int32), ("num_seqs", c_int32), ("reserved", c_int32),
                ("seqs", POINTER(c_uint64)), ("num_tokens", POINTER(c_int64)), ("k", Tensor), ("v", Tensor), ("q", Tensor),
                ("stats", POINTER(Stats)), ("keep", c_void_p), ("merge", c_void_p), ("importance", c_void_p),
                ("stream", c_void_p)]


class AttendArgs(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("layer", c_int32), ("parts", c_int32), ("num_seqs", c_int32),
                ("seqs", POINTER(c_uint64)), ("num_queries", POINTER(c_int64)), ("q", Tensor), ("out", Tensor),
                ("lse", c_void_p), ("sinks", c_void_p), ("alibi", c_void_p), ("sliding_window", c_int64),
                ("stats", POINTER(Stats)), ("error", c_void_p), ("certified", c_void_p), ("stream", c_void_p)]


# td_... name -> the struct here, for the test that compares them. td_config, td_selector, td_codec and td_window_policy
# are absent: configurations go to td_create_json.
BY_C_NAME = {"td_tensor": Tensor, "td_seq_info": SeqInfo, "td_stats": Stats, "td_append_args": AppendArgs,
             "td_attend_args": AttendArgs}


_Struct = TypeVar("_Struct", bound=ctypes.Structure)


def sized(struct: type[_Struct], **fields: Any) -> _Struct:
    """What TD_INIT makes: zeroes, and its own size."""
    return struct(size=ctypes.sizeof(struct), **fields)


def sequence_ids(ids: Sequence[int]) -> ctypes.Array:
    return (c_uint64 * len(ids))(*ids)


def counts(values: Sequence[int]) -> ctypes.Array:
    return (c_int64 * len(values))(*values)


LogHook = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
