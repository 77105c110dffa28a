"""Chat templates that try to keep the machine busy, to fill its memory, or to end in something without words.

Run as a program it renders each under limits of the operating system and prints, as JSON, the words each ended in.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

MOST_BYTES = 300 << 20
"""What rendering them may take."""

BIG = "{% set big = 'a' * 4000000 %}"
NEST = "{% set n = namespace(l=['ab']) %}{% for i in range(64) %}{% set n.l = [n.l, n.l] %}{% endfor %}"

HOSTILE = {
    # time: loops, calls and parsing
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "filtered loops": "{% for a in range(99999) if a < 0 %}{% endfor %}" * 999,
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loop": "{% for a in [[[1]]] recursive %}{{ loop([[[1]]]) }}{% endfor %}",
    "long range": "{{ range(10**9) | list }}",
    "deep blocks": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "deep brackets": "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "deeper brackets": "{{ " + "[" * 90000 + "]" * 90000 + " }}",
    "long sum": "{{ " + "1 + " * 50000 + "1 }}",
    "long source": "{{ 1 }}" * 400000,
    "long number": "{{ " + "9" * 5000 + " }}",
    "assertion": "{{ 'abcdef ghi jkl' | truncate(-1) }}",
    "super": "{{ super() }}",
    "unknown filter": "{{ 1 | nosuch }}",
    "broken": "{% for %}",
    "include": "{% include 'x' %}",
    "nothing": "{{ messages[0].content + none }}",
    # memory: operators
    "times": "{{ 'a' * 10**10 }}",
    "times list": "{{ ([0] * 10**9) | length }}",
    "times safe": "{{ ('a' | safe) * 10**10 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "power of power": "{% set n = namespace(x=9) %}{% for i in range(40) %}{% set n.x = n.x ** 9 %}{% endfor %}",
    "products": "{% set n = namespace(x=99) %}{% for i in range(40) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling": "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "tilde": "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "block": "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set s %}{{ n.s }}{{ n.s }}{% endset %}"
    "{% set n.s = s %}{% endfor %}",
    "many": BIG + "{% set n = namespace(l=[]) %}"
    "{% for i in range(9999) %}{% set n.l = n.l + [(big ~ i)] %}{% endfor %}",
    "many slices": BIG + "{% set n = namespace(l=[]) %}"
    "{% for i in range(9999) %}{% set n.l = n.l + [big[i:]] %}{% endfor %}",
    "many in a dict": BIG + "{% set n = namespace(d={}) %}"
    "{% for i in range(9999) %}{% set n.d = {'a': n.d, 'b': big[i:]} %}{% endfor %}",
    "written again": BIG + "{% for i in range(9999) %}{{ big }}{% endfor %}",
    # memory: what is nested, shared and then written, compared or hashed
    "nested text": NEST + "{{ n.l }}",
    "nested string": NEST + "{{ n.l | string | length }}",
    "nested json": NEST + "{{ n.l | tojson }}",
    "nested join": NEST + "{{ n.l | join(',') }}",
    "nested format": NEST + "{{ '%s' % (n.l,) }}",
    "nested tilde": NEST + "{{ n.l ~ '' }}",
    "nested equal": NEST
    + "{% set m = namespace(l=['ab']) %}{% for i in range(64) %}{% set m.l = [m.l, m.l] %}"
    "{% endfor %}{{ n.l == m.l }}",
    "nested tuples": "{% set n = namespace(l=('ab',)) %}{% for i in range(64) %}{% set n.l = (n.l, n.l) %}"
    "{% endfor %}{{ {n.l: 1} }}",
    "nested dicts": "{% set n = namespace(l={}) %}{% for i in range(64) %}{% set n.l = {'a': n.l, 'b': n.l} %}"
    "{% endfor %}{{ n.l }}",
    "nested by dict": "{% set n = namespace(l={}) %}{% for i in range(64) %}{% set n.l = dict(a=n.l, b=n.l) %}"
    "{% endfor %}{{ n.l | pprint }}",
    "nested views": "{% set n = namespace(l={}) %}{% for i in range(64) %}"
    "{% set n.l = {'a': n.l.items(), 'b': n.l.items()} %}{% endfor %}{{ n.l }}",
    "nested spaces": "{% set n = namespace(l=1) %}{% for i in range(64) %}"
    "{% set n.l = namespace(a=n.l, b=n.l) %}{% endfor %}{{ n.l | string | length }}{{ [n.l] * 10**8 }}",
    "wide lists": "{% set n = namespace(l=['ab']) %}{% for i in range(9) %}{% set n.l = [n.l] * 999 %}{% endfor %}"
    "{{ n.l }}",
    "list of big": BIG + "{{ ([big] * 100000) | join }}",
    "json of big": BIG + "{{ ([big] * 100000) | tojson | length }}",
    # memory: filters
    "center": "{{ 'a' | center(10**10) }}",
    "many centers": "{{ range(99999) | map('string') | map('center', 9999) | list | length }}",
    "indent": "{{ ('\n' * 100000) | indent(100000) }}",
    "indent text": "{{ ('\n' * 100000) | indent('a' * 100000) }}",
    "json indent": "{{ [1, 2] | tojson(indent=10**8) }}",
    "json indent text": "{{ (range(9999) | list) | tojson(indent='a' * 1000000) }}",
    "json separators": "{{ (range(9999) | list) | tojson(separators=('a' * 1000000, 'b')) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list | length }}",
    "slices": "{{ [1] | slice(10**9) | list | length }}",
    "join": "{{ (['a' * 1000] * 1000) | join('b' * 1000000) }}",
    "join dict": "{{ dict.fromkeys(range(9999)) | join('b' * 1000000) }}",
    "replace filter": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "many formats": "{{ ('%9999d' * 9999) % ((1,) * 9999) }}",
    "format star": "{{ '%*d' | format(10**9, 1) }}",
    "precision": "{{ '%.999999999f' % 1.5 }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "sum of lists": "{{ ([[1] * 1000] * 1000) | sum(start=[]) | length }}",
    "wrap": "{{ ('a ' * 2000000) | wordwrap(1) | length }}",
    "links": "{{ ('http://a.b ' * 500000) | urlize | length }}",
    "tags": "{{ ('<' * 2000000) | striptags | length }}",
    "words": "{{ ('a ' * 2000000) | wordcount }}",
    "attribute path": "{{ (['a'] * 999) | map(attribute='0.' * 100000 ~ '0') | list }}",
    "attribute paths": "{{ (['a'] * 99999) | sort(attribute='0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0') }}",
    "division of numbers": "{% set x = ('9' * 4000000) | int(0, 16) %}{{ (x // (x // 3 + 7)) | string | length }}",
    "strftime": "{{ strftime_now('%Y' * 9999999) }}",
    "wide date": "{{ strftime_now('%999999999d') }}",
    # memory and time: methods
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "safe ljust": "{{ ('a' | safe).ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "tabs": "{{ '\t'.expandtabs(10**9) }}",
    "width": "{{ '%9999999999d' % 1 }}",
    "format": "{{ '{:9999999999}'.format(1) }}",
    "format by argument": "{{ '{:{}}'.format('a', 10**9) }}",
    "format by text": "{{ '{:{w}}'.format('a', w='999999999') }}",
    "format map": "{{ '{a:{w}}'.format_map({'a': 1, 'w': 999999999}) }}",
    "format repeats": BIG + "{{ ('{0}' * 9999).format(big) }}",
    "percent repeats": BIG + "{{ ('%(a)s' * 9999) % {'a': big} }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "replace between": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "method join": "{{ ('b' * 1000000).join(['a'] * 99999) }}",
    "join of keys": "{{ ('b' * 1000000).join(dict.fromkeys('abcdefghijklmnopqrstuvwxyz' | list)) }}"
    "{{ ('b' * 4000000).join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}",
    "strip": "{{ ('a' * 4000000).strip('b' * 4000000 ~ 'a') }}",
    "find backwards": "{{ ('a' * 4000000).rfind('b' ~ 'a' * 2000000) }}",
    "split backwards": "{{ ('a' * 4000000).rsplit('b' ~ 'a' * 2000000) | length }}",
    "translate": "{{ ('a' * 4000).translate({97: 'b' * 1000000}) }}",
    "bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "more bytes": "{{ (1).to_bytes(length=10**9) | length }}",
    "encode": "{{ ('é' * 1000000).encode('punycode') | length }}",
    # time: what is long compared, searched or copied again and again
    "equal again": "{% set a = range(99999) | list %}{% set b = range(99999) | list %}"
    "{% for i in range(99999) %}{% for j in range(99) %}{% if a == b %}{% endif %}{% endfor %}{% endfor %}",
    "equal test again": "{% set a = range(99999) | list %}{% set b = range(99999) | list %}"
    "{% for i in range(99999) %}{% for j in range(99) %}{% if a is eq(b) %}{% endif %}{% endfor %}{% endfor %}",
    "searched again": BIG + "{% for i in range(99999) %}{% if 'b' in big %}{% endif %}{% endfor %}",
    "counted again": BIG + "{% for i in range(99999) %}{% if big.count('b') %}{% endif %}{% endfor %}",
    "summed again": "{% set a = range(99999) | list %}{% for i in range(99999) %}{{ a | sum }}{% endfor %}",
    "sliced again": "{% set a = range(99999) | list %}{% for i in range(99999) %}{% set b = a[1:] %}{% endfor %}",
    # the machine
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attribute": "{{ (1 | attr('__class__')).__name__ + none }}",
    "mutation": "{{ messages.append(1) }}",
    "space": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
}


def main() -> None:
    """Render each template and print what it ended in."""
    from weitiao.data.templates.sandbox import REFUSALS, compiled

    compiled("{{ 1 }}").render({})
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most_bytes = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    ended: dict[str, str] = {}
    for name in sys.argv[1:] or HOSTILE:
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(resource.getrusage(0).ru_utime) + 60, resource.RLIM_INFINITY)
        )
        try:
            text = compiled(HOSTILE[name]).render({"messages": [{"role": "user", "content": "x"}]})
            ended[name] = f"written: {text[:40]!r}"
        except REFUSALS as error:
            ended[name] = "" if isinstance(error, MemoryError) else str(error)
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
