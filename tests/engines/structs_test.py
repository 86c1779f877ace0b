"""The structs and constants of the Python package are those of tandem.h: a C program says what the compiler makes of it."""
import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from tandem_attention import _structs, errors, stats

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "runtime/include"
CONSTANTS = {
    "TANDEM_ABI": _structs.ABI, "TD_F32": _structs.F32, "TD_F16": _structs.F16, "TD_BF16": _structs.BF16,
    "TD_INT8": _structs.INT8, "TD_K8V4": _structs.K8V4, "TD_PART_STATIC": _structs.PART_STATIC,
    "TD_PART_DYNAMIC": _structs.PART_DYNAMIC, "TD_PART_ALL": _structs.PART_ALL, "TD_EXACT": _structs.EXACT,
    "TD_MEMORY_HOST": _structs.MEMORY_HOST, "TD_MEMORY_DEVICE": _structs.MEMORY_DEVICE,
    "TD_N_STAGES": len(_structs.STAGES), **{name: value for value, name in errors._NAMES.items()},
    **{f"TD_{stage.upper()}": index for index, stage in enumerate(_structs.STAGES)},
}


def lines_of_c(program):
    """What a C program prints, as words."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "sizes.c"
        source.write_text(program, encoding="utf-8")
        subprocess.run([compiler, "-std=c11", "-Werror", f"-I{INCLUDE}", str(source), "-o", f"{folder}/sizes"], check=True)
        output = subprocess.run([f"{folder}/sizes"], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in output.splitlines()]


class Structs(unittest.TestCase):
    def test_sizes_and_offsets(self):
        expected, prints = {}, []
        for name, struct in _structs.BY_C_NAME.items():
            expected[name, "-"] = (ctypes.sizeof(struct), 0)
            prints.append(f'printf("{name} - %zu 0\\n", sizeof({name}));')
            for field, _ in struct._fields_:
                at = getattr(struct, field)
                expected[name, field] = (at.size, at.offset)
                prints.append(f'printf("{name} {field} %zu %zu\\n", sizeof((({name}*)0)->{field}), offsetof({name}, {field}));')
        found = {(name, field): (int(size), int(offset)) for name, field, size, offset in lines_of_c(
            '#include <stdio.h>\n#include "tandem/tandem.h"\nint main(void) {\n' + "\n".join(prints) + "\nreturn 0;\n}\n")}
        self.assertEqual(found, expected)

    def test_no_field_is_missing(self):
        """Fields cover each struct without a gap, so that one that the header has and Python lacks would show."""
        for name, struct in _structs.BY_C_NAME.items():
            end = 0
            for field, _ in struct._fields_:
                at = getattr(struct, field)
                self.assertEqual(at.offset, end, f"{name}.{field}")
                end = at.offset + at.size
            self.assertEqual(end, ctypes.sizeof(struct), name)

    def test_constants(self):
        prints = "".join(f'printf("{name} %d\\n", (int){name});\n' for name in CONSTANTS)
        found = {name: int(value) for name, value in lines_of_c(
            '#include <stdio.h>\n#include "tandem/tandem.h"\nint main(void) {\n' + prints + "return 0;\n}\n")}
        self.assertEqual(found, CONSTANTS)
        self.assertEqual((errors.EINVAL, errors.ENOMEM, errors.EUNSUPPORTED, errors.EDEVICE, errors.ESTATE, errors.EIO,
                          errors.EINTERNAL), (-1, -2, -3, -4, -5, -6, -7))

    def test_stats_are_unpacked_as_they_lie(self):
        raw = _structs.sized(_structs.Stats, num_workers=3, total_us=7.5, rows_host=5, keys_visible=9, lse_error=.25, out_error=-1,
                             bytes_streamed=11)
        raw.us[2], raw.bytes[6] = 1.5, 4
        self.assertEqual(stats._FORMAT.size, ctypes.sizeof(_structs.Stats))
        read = stats.Stats.of(raw)
        self.assertEqual((read.calls, read.total_us, read.rows_host, read.keys_visible, read.bytes_streamed), (1, 7.5, 5, 9, 11))
        self.assertEqual((read.us["index"], read.bytes["merge"], read.lse_error, read.out_error), (1.5, 4, .25, None))


if __name__ == "__main__":
    unittest.main()
