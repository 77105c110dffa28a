"""Renders untrusted chat templates in a sandbox: no access to the machine, bounded time and memory.

The Jinja environment is that of transformers (utils/chat_template_utils.py: sandboxed and immutable, trimmed blocks,
`raise_exception`, `strftime_now`, `tojson`, `{% generation %}`), so a template renders the same text in both; a test
checks this. In addition, every loop, macro, call, filter and comparison is counted, and large values are refused before
they are created. The limits need no signals and no threads, so rendering works in any thread or process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, wraps
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from . import sandbox_limits as limits
from .sandbox_calls import within_filter, within_method
from .sandbox_limits import TooCostly
from .template_trace import Traced, Untraceable, is_traced, untraced

COPYING = {
    *("trim", "default", "d", "string", "first", "last", "list", "length", "count"),
    *("select", "reject", "selectattr", "rejectattr", "map"),
}
"""Filters allowed on a stand-in for a content (see template_trace.py): they copy it, or use only what it records."""

COMPARISONS = (
    "eq",
    "==",
    "equalto",
    "ne",
    "!=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
)
"""Jinja tests that compare two values."""
REFUSALS = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors that rendering a template can raise: its own `raise_exception`, or a bug in it such as adding text to None."""


class Compiled:
    """A template compiled for rendering within the limits."""

    def __init__(self, source: str) -> None:
        """Compile a template; raises one of `REFUSALS` if the source is not a valid template."""
        if len(source) > limits.MOST_SOURCE:
            raise TooCostly(f"the template has more than {limits.MOST_SOURCE} characters")
        self.environment = BoundedEnvironment()
        with limits.limited():
            tree = _Watched().visit(self.environment.parse(source))
            code = self.environment.compile(tree)
        self._template = jinja2.Template.from_code(
            self.environment, code, self.environment.make_globals(None)
        )

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the rendered text; raises one of `REFUSALS`, among them TooCostly if a limit is exceeded."""
        with limits.limited(variables):
            return untraced(self._template.render(variables))


@cache
def compiled(source: str) -> Compiled:
    """Return a compiled template from a cache; raises one of `REFUSALS`."""
    return Compiled(source)


class _Direct(CodeGenerator):
    """Compiles the calls that count turns to plain calls: through `call`, which all others go, they take ten times as
    long."""

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        if isinstance(node.node, nodes.EnvironmentAttribute) and node.node.name == "tick":
            self.write("environment.tick()")
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The chat template environment of transformers, with limits on steps and sizes."""

    code_generator_class = _Direct
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False
        )
        self.globals |= {
            "raise_exception": _refuse,
            "strftime_now": Now(),
            "namespace": _Namespace,
            "dict": _Dict(),
        }
        del self.globals["lipsum"]
        self.tests |= {name: _counted(self.tests[name]) for name in COMPARISONS} | {"in": _is_in}
        self.filters |= {"tojson": _tojson, "join": _join, "sum": _sum}
        self.filters = {name: _bounded(name, one) for name, one in self.filters.items()}

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join the output of a template or a block."""
        kept: list[str] = []
        size = 0
        for piece in pieces:
            size += str.__len__(piece)
            limits.within(size)
            kept.append(piece)
        text = limits.made("".join(kept))
        traced = next((piece for piece in kept if isinstance(piece, Traced)), None)
        return text if traced is None else Traced(text, traced.trace)

    def tick(self) -> str:
        """Count one loop iteration or macro call, as two turns; raises TooCostly after too many."""
        limits.tick(2)
        return ""

    def counted(self, value: Any) -> Any:  # noqa: ANN401  (whatever is compared)
        """Return a value that is about to be compared; counts the steps to read all of it."""
        limits.read(value)
        return value

    def made(self, value: Any) -> Any:  # noqa: ANN401  (a list, tuple or dict)
        """Return a list, tuple or dict literal of a template, after checking its size."""
        return limits.made(value)

    def sliced(self, value: Any, *ends: Any) -> Any:  # noqa: ANN401  (whatever has slices)
        """Return `value[start:stop:step]`."""
        taken = value[slice(*ends)]
        limits.read(taken)
        return limits.made(taken) if isinstance(taken, str) else taken

    def joined(self, *values: object) -> str:
        """Join values as text (the `~` operator)."""
        return self.concat(str(value) for value in values)

    def holds(self, container: Any, item: object) -> bool:  # noqa: ANN401  (whatever a template has)
        """Return whether a container holds an item (the `in` operator)."""
        return _is_in(item, container)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Apply a binary operator whose result could be large, after checking the size of the result."""
        if operator == "+":
            limits.within_sum(left, right)
        elif operator == "*":
            limits.within_product(left, right)
        elif operator == "**":
            limits.within_power(left, right)
        elif isinstance(left, str):
            _no_stand_in("%", (left, right))
            limits.within_percent(left, right)
        return limits.made(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """Return Jinja's safe `str.format`, with a limit on its result."""
        made = super().wrap_str_format(value)
        if made is None:
            return None
        text: str = value.__self__

        def within(*args: Any, **kwargs: Any) -> str:  # noqa: ANN401
            _no_stand_in("format", (*args, *kwargs.values()))
            limits.within_braces(text, _values((*args, *kwargs.values())))
            return limits.made(made(*args, **kwargs))

        return within

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Make a template's call, after counting it and checking its arguments."""
        limits.tick()
        if isinstance(__obj, BuiltinMethodType | MethodType) and _is_pythons(__obj.__self__):
            args = _listed(args)
            # Jinja passes the loop's variables as keyword arguments that begin with an underscore.
            given = (*args, *(value for name, value in kwargs.items() if not name.startswith("_")))
            _no_stand_in(__obj.__name__, given)
            for one in (__obj.__self__, *given):
                limits.read(one)
            within_method(__obj.__self__, __obj.__name__, given)
        elif __obj is _refuse or isinstance(__obj, Now):
            _no_stand_in("a call", args)
        return limits.made(super().call(__context, __obj, *args, **kwargs))


class _Generation(Extension):
    """`{% generation %}`, which marks text of the assistant; here it renders its body unchanged."""

    tags = {"generation"}  # noqa: RUF012  (as Extension declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller: Callable[[], str]) -> str:
        return caller()


class _Watched(NodeTransformer):
    """Rewrites a template's syntax tree so that loops, macros and comparisons are counted.

    Operations that Jinja compiles to plain Python (slices, `~`, `in`, literals) become calls to methods of
    BoundedEnvironment.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _call_of("tick", [], node, nodes.ExprStmt))
        if node.test is not None:
            counted = nodes.Not(_call_of("tick", [], node)).set_lineno(node.lineno)
            node.test = nodes.And(counted, node.test).set_lineno(node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _call_of("tick", [], node, nodes.ExprStmt))
        return node

    visit_CallBlock = visit_Macro

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _weighed(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx != "load" else _weighed(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _weighed(node, [side for pair in node.items for side in (pair.key, pair.value)])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = [one or nodes.Const(None) for one in (node.arg.start, node.arg.stop, node.arg.step)]
        taken: nodes.Node = _call_of("sliced", [node.node, *ends], node)
        return taken

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        joined: nodes.Node = _call_of("joined", node.nodes, node)
        return joined

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) != 1 or node.ops[0].op not in ("in", "notin"):
            # A comparison with a literal of the template is cheap, so it is not counted.
            if not any(isinstance(one, nodes.Const) for one in (node.expr, *(op.expr for op in node.ops))):
                node.expr = _call_of("counted", [node.expr], node)
            return node
        held: nodes.Expr = _call_of("holds", [node.ops[0].expr, node.expr], node)
        return nodes.Not(held).set_lineno(node.lineno) if node.ops[0].op == "notin" else held


def _weighed(node: nodes.Expr, inside: Sequence[nodes.Expr]) -> nodes.Node:
    """Return a literal wrapped in a size check at run time; one of constants only needs no check."""
    if all(isinstance(one, nodes.Const) for one in inside):
        return node
    weighed: nodes.Node = _call_of("made", [node], node)
    return weighed


def _call_of(
    name: str, arguments: list[nodes.Expr], at: nodes.Node, around: type[nodes.Node] | None = None
) -> Any:  # noqa: ANN401  (an expression, or the statement around it)
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    made = around(call) if around else call
    return made.set_lineno(at.lineno)


class _Namespace(Namespace):
    """Jinja's namespace, but names that begin with an underscore raise SecurityError."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        for name in dict(*args[1:], **kwargs):
            _no_underscore(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401
        _no_underscore(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"  # the contents could be recursive, or long


class _Dict:
    """The `dict` of templates, limited to `dict(...)` and `dict.fromkeys(...)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: object = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _no_underscore(name: object) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} begins with an underscore")


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


@dataclass(frozen=True)
class Now:
    """The `strftime_now` of templates."""

    day: date | None = None
    """The date (at midnight) that a whole run is rendered with; None for the current time."""

    def __call__(self, form: str) -> str:
        """Return the date in a strftime format; raises TooCostly for a format with a very long result."""
        if len(form) > limits.MOST_DATE or re.search(r"%\W*\d", form):
            raise TooCostly("it asks for a very long date")
        moment = datetime.now() if self.day is None else datetime.combine(self.day, datetime.min.time())
        return moment.strftime(form)


def _tojson(
    value: Any,  # noqa: ANN401  (anything JSON takes)
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    spacing = (*(separators or ()), indent if isinstance(indent, str) else "")
    if max(map(len, spacing)) > limits.MOST_INDENT or (
        isinstance(indent, int) and indent > limits.MOST_INDENT
    ):
        raise TooCostly("it asks for JSON with a very wide indent")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    texts: list[str] = []
    size = 0
    for one in value:
        limits.tick()
        texts.append(str(one if attribute is None else one[attribute]))
        size += len(texts[-1]) + len(d)
        limits.within(size)
    return d.join(texts)


def _sum(value: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    total = start
    for one in value:
        limits.tick()
        number = one if attribute is None else one[attribute]
        if not isinstance(number, int | float):
            raise TypeError(f"{number!r} is no number")
        total += number
    return total


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that counts its calls, and checks the size of its arguments and its result."""

    @wraps(function)
    def within(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        limits.tick()
        args = _listed(args)
        given = _values((*args, *kwargs.values()))
        if name not in COPYING:
            _no_stand_in(name, given)
        for one in given:
            limits.read(one)
        within_filter(name, given[0] if given else "", given[1:])
        return limits.made(function(*args, **kwargs))

    return within


def _counted(test: Any) -> Callable[..., Any]:  # noqa: ANN401  (jinja types its tests loosely)
    """Return a comparing test that counts the steps to read the value it compares."""

    @wraps(test)
    def counted(value: Any, *others: Any) -> Any:  # noqa: ANN401
        limits.read(value)
        return test(value, *others)

    return counted


def _values(given: Sequence[Any]) -> tuple[Any, ...]:
    """Return a filter's arguments without the environment or context that Jinja passes first to some filters."""
    return tuple(
        one for one in given if not isinstance(one, jinja2.Environment | Context | nodes.EvalContext)
    )


def _is_pythons(owner: object) -> bool:
    """Return whether a method belongs to a plain Python value, not to a stand-in or the environment itself."""
    return not isinstance(owner, Traced | jinja2.Environment)


def _listed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with iterators turned into lists, so that their sizes can be checked."""
    return tuple([*_watched(one)] if isinstance(one, Iterator) else one for one in arguments)


def _watched(values: Iterator[Any]) -> Iterator[Any]:
    for number, one in enumerate(values, start=1):
        limits.tick()
        limits.within_items(number)
        yield one


def _no_stand_in(name: str, values: Sequence[object]) -> None:
    if any(map(is_traced, values)):
        raise Untraceable(f"the template gives a content to {name}")


def _is_in(item: object, container: Any) -> bool:  # noqa: ANN401  (whatever a template has)
    if isinstance(container, str) and not isinstance(container, Traced):
        _no_stand_in("in", (item,))
    limits.read(container)
    return item in container
