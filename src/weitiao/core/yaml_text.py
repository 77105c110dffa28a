"""Reads run files as plain YAML: nothing is looked up, and no file can exhaust memory or time.

PyYAML's safe loader, with four differences: `1e-5` is a number (YAML 1.2), dates and `1:30` are strings, duplicate keys
are refused, and values repeated by anchors are counted, so that a few lines cannot expand to millions of values.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

MOST_VALUES = 200_000
"""Most values in a file; what anchors repeat is counted each time."""
MOST_DEPTH = 100
FLOAT = (
    r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
INTEGER = r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)"
"""Excludes `1:30`, which YAML 1.1 reads as 90, and `010`, which it reads as 8."""


class YamlError(ValueError):
    """Says why a text is not usable YAML, with line and column where known."""


class _Loader(yaml.SafeLoader):
    """The safe loader with the differences above."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as yaml declares it)
        letter: [
            (tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":float", ":int"))
        ]
        for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key.value}", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{FLOAT})$"), list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{INTEGER})$"), list("-+0123456789"))


def load_yaml(text: str) -> Any:  # noqa: ANN401  (any YAML value)
    """Return the content of a YAML text as dicts, lists, strings, numbers, booleans and None; raises YamlError."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, 0)
            return _plain(loader.construct_document(node))
        finally:
            loader.dispose()
    except RecursionError as error:
        raise YamlError("values are nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise YamlError(str(error)) from error


def _count(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return how many values a node expands to; raises YamlError for too many, too deep, or recursive ones."""
    if depth > MOST_DEPTH:
        raise YamlError(f"values are nested more than {MOST_DEPTH} deep, or an anchor contains itself")
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [one for child in children for one in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_count(one, known, depth + 1) for one in flat)
    if known[id(node)] > MOST_VALUES:
        raise YamlError(f"anchors expand it to more than {MOST_VALUES:,} values")
    return known[id(node)]


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value with its keys as text, as in JSON; raises YamlError for types that no setting takes."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise YamlError(f"a setting cannot be a {type(value).__name__}: {value!r:.60}")


def _key(key: object) -> str:
    if isinstance(key, str | bool | int | float) or key is None:
        return str(key)
    raise YamlError(f"the name of a setting cannot be a {type(key).__name__}: {key!r:.60}")
