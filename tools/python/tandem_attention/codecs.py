"""Codecs of the window by the names that the command line has for them -> the fields of td_codec."""
import re
from typing import Any, Mapping

from .errors import EINVAL, TandemError

FORMS = ("none, int8, fp8, kivi4, kivi4:GROUP, kivi2, kivi2:GROUP, qjl, qjl:SIGNS,OUTLIERS, nuq4, nuq3, nuq2 (nuq needs a "
         "calibration, so a dictionary) or a dictionary with the fields of td_codec")
_NAME = re.compile(r"(?P<kind>none|int8|fp8)|(?P<kivi>kivi)(?P<kivi_bits>[42])(:(?P<group>[1-9]\d*))?"
                   r"|(?P<qjl>qjl)(:(?P<signs>[1-9]\d*),(?P<outliers>\d+))?|(?P<nuq>nuq)(?P<nuq_bits>[432])", re.ASCII)


def codec_of(codec: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a codec: those of its name, as in `tandem generate --window-codec`, or of a dictionary. Throws
    TandemError naming what is allowed."""
    if isinstance(codec, Mapping):
        return dict(codec)
    match = _NAME.fullmatch(codec) if isinstance(codec, str) else None
    if match is None:
        raise TandemError(f"window_codec is {codec!r}; allowed: {FORMS}", EINVAL)
    part = match.groupdict()
    fields = {"kind": part["kind"] or part["kivi"] or part["qjl"] or part["nuq"], "bits": part["kivi_bits"] or part["nuq_bits"],
              "group": part["group"], "sketch_bits": part["signs"], "outliers": part["outliers"]}
    if fields["outliers"] is not None:
        fields["outliers"] = int(fields["outliers"]) or -1  # 0 is td_codec's default
    return {name: value if name == "kind" else int(value) for name, value in fields.items() if value is not None}
