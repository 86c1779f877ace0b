"""Keyword arguments -> the JSON of td_create_json, whose field names they have."""
import json
from typing import Any, Mapping

from .codecs import codec_of
from .errors import TandemError

SELECTOR_FIELDS = ("budget", "error", "sketch_bits", "unbiased", "lsh_bits", "lsh_tables", "lsh_min_collisions", "lsh_planes",
                   "seed")


def selector_of(kind: str | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The selector of keyword arguments: a kind by name with its fields beside it, or all of it as one dictionary."""
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(kind, str):
        return {"kind": kind, **given}
    if given:
        raise TandemError(f"{', '.join(given)} needs a selector by name, e.g. selector='sketch'; selector is {kind!r}")
    return None if kind is None else dict(kind)


def config_json(options: Mapping[str, Any]) -> str:
    """All of td_config from keyword arguments; those that are None keep their defaults. The library checks values.
    `selector` may be a name, with its fields (budget, error, ..) beside the others; `window_codec` may be one too."""
    fields = {name: value for name, value in options.items() if value is not None and name not in SELECTOR_FIELDS}
    selector = selector_of(fields.get("selector"), {name: options.get(name) for name in SELECTOR_FIELDS})
    if selector is not None:
        fields["selector"] = selector
    if "window_codec" in fields:
        fields["window_codec"] = codec_of(fields["window_codec"])
    try:
        return json.dumps(fields)
    except TypeError as error:
        raise TandemError(f"the configuration is not JSON: {error}") from None
