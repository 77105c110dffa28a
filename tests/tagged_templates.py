# ruff: noqa: E501  (templates stand here as they were published)
"""Chat templates of models that mark thoughts and calls with tokens, and tokenizers that have these as special tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from real_templates import REAL, Real
from template_zoo import made_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MISTRAL_IDS = """\
{%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}{{- '{"type": "function", "function": ' + tool.function|tojson + '}' }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}{%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}{{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST]" + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif (message.tool_calls is defined and message.tool_calls is not none) %}
        {{- "[TOOL_CALLS][" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}{{- message["content"] + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}{%- set content = message.content.content %}{%- else %}{%- set content = message.content %}{%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
"""Mistral-Nemo's."""

GPT_OSS = """\
{{- "<|start|>system<|message|>You are ChatGPT.<|end|>" }}
{%- if messages[0].role == "system" %}{{- "<|start|>developer<|message|># Instructions\\n\\n" + messages[0].content + "<|end|>" }}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set last_tool_call = namespace(name=none) %}
{%- for message in loop_messages %}
    {%- if message.role == 'assistant' %}
        {%- if message.content and ("<|channel|>analysis<|message|>" in message.content or "<|channel|>final<|message|>" in message.content) %}
            {{- raise_exception("You have passed a message containing <|channel|> tags in the content field.") }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- set tool_call = message.tool_calls[0].function %}
            {%- if message.thinking %}{{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}{%- endif %}
            {{- "<|start|>assistant to=functions." + tool_call.name + "<|channel|>commentary json<|message|>" }}
            {{- tool_call.arguments|tojson }}{{- "<|call|>" }}
            {%- set last_tool_call.name = tool_call.name %}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if message.thinking %}{{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}{%- endif %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
        {%- else %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
        {%- endif %}
    {%- elif message.role == 'tool' %}{{- "<|start|>functions." + last_tool_call.name }}{{- " to=assistant<|channel|>commentary<|message|>" + message.content|tojson + "<|end|>" }}
    {%- elif message.role == 'user' %}{{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}
"""

GLM45 = """\
[gMASK]<sop>
{%- if tools %}
<|system|>
# Tools
<tools>
{% for tool in tools %}{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}
</tools>
For each function call, output the function name and arguments within the following XML format:
<tool_call>{function-name}
<arg_key>{arg-key-1}</arg_key>
<arg_value>{arg-value-1}</arg_value>
</tool_call>{%- endif -%}
{%- set ns = namespace(last_user_index=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{% set ns.last_user_index = loop.index0 -%}{%- endif %}{%- endfor %}
{% for m in messages %}
{%- if m.role == 'user' -%}<|user|>
{{ m.content }}
{%- elif m.role == 'assistant' -%}
<|assistant|>
{%- set reasoning_content = '' %}
{%- set content = m.content %}
{%- if m.reasoning_content is string %}{%- set reasoning_content = m.reasoning_content %}
{%- else %}{%- if '</think>' in content %}
{%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}{%- endif %}
{%- if loop.index0 > ns.last_user_index and reasoning_content -%}
{{ '\\n<think>' + reasoning_content.strip() +  '</think>'}}
{%- else -%}
{{ '\\n<think></think>' }}
{%- endif -%}
{%- if content.strip() -%}{{ '\\n' + content.strip() }}{%- endif -%}
{% if m.tool_calls %}
{% for tc in m.tool_calls %}{%- if tc.function %}{%- set tc = tc.function %}{%- endif %}
{{ '\\n<tool_call>' + tc.name }}
{% set _args = tc.arguments %}{% for k, v in _args.items() %}<arg_key>{{ k }}</arg_key>
<arg_value>{{ v | tojson(ensure_ascii=False) if v is not string else v }}</arg_value>
{% endfor %}
</tool_call>{% endfor %}
{% endif %}
{%- elif m.role == 'tool' -%}
{%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|observation|>' }}{%- endif %}
{{- '\\n<tool_response>\\n' }}{{- m.content }}{{- '\\n</tool_response>' }}
{%- elif m.role == 'system' -%}<|system|>
{{ m.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- else -%}<|user|>{%- endif -%}
"""

DEEPSEEK_V31 = """\
{% set ns = namespace(is_last_user=false, in_tools=false, system_prompt='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{%- endif %}{%- endfor %}
{{ bos_token }}{{ ns.system_prompt }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{%- set ns.is_last_user = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}
{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}
{%- if ns.is_last_user %}{{'<｜Assistant｜></think>'}}{%- endif %}{%- set ns.is_last_user = false -%}
{{ message['content'] + '<｜tool▁calls▁begin｜>' }}
{%- for tool in message['tool_calls'] %}{{ '<｜tool▁call▁begin｜>' + tool['function']['name'] + '<｜tool▁sep｜>' + tool['function']['arguments'] | tojson + '<｜tool▁call▁end｜>' }}{%- endfor %}
{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}
{%- if message['role'] == 'assistant' and (message['tool_calls'] is not defined or message['tool_calls'] is none) %}
{%- if ns.is_last_user %}{{'<｜Assistant｜>'}}{{'</think>'}}{%- endif %}{%- set ns.is_last_user = false -%}
{%- set content = message['content'] -%}
{%- if '</think>' in content %}{%- set content = content.split('</think>', 1)[1] -%}{%- endif %}
{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}
{%- if message['role'] == 'tool' %}{%- set ns.is_last_user = false -%}{{'<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}
{%- endfor -%}
{%- if add_generation_prompt and ns.is_last_user %}{{'<｜Assistant｜></think>'}}{% endif %}
"""

KIMI = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}<|im_user|>user<|im_middle|>
{%- elif message['role'] == 'assistant' -%}<|im_assistant|>assistant<|im_middle|>
{%- else -%}<|im_system|>{{ message['role'] }}<|im_middle|>
{%- endif -%}
{%- if message['role'] == 'assistant' and message.get('tool_calls') -%}
{%- if message['content'] -%}{{ message['content'] }}{%- endif -%}
<|tool_calls_section_begin|>
{%- for tool_call in message['tool_calls'] -%}<|tool_call_begin|>{{ tool_call['id'] }}<|tool_call_argument_begin|>{{ tool_call['function']['arguments'] | tojson }}<|tool_call_end|>{%- endfor -%}
<|tool_calls_section_end|>
{%- elif message['role'] == 'tool' -%}## Return of {{ message.tool_call_id }}
{{ message['content'] }}
{%- else -%}{{ message['content'] }}
{%- endif -%}<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}
"""

PHI4_MINI = (
    "{% for message in messages %}{% if message['role'] == 'assistant' and message.tool_calls %}{{ '<|assistant|><|tool_call|>' + message.tool_calls | map(attribute='function') | list | tojson + '<|/tool_call|><|end|>' }}"
    "{% elif message['role'] == 'tool' %}{{ '<|tool_response|>' + message['content'] + '<|end|>' }}"
    "{% elif message['role'] == 'system' and tools %}{{ '<|system|>' + message['content'] + '<|tool|>' + tools | tojson + '<|/tool|><|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

ALWAYS_THINKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""Opens every answer's thought in the prompt."""
TAKES_OUT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and not loop.last and '[/THINK]' in m.content %}"
    "{{ m.content.replace('[THINK]', '[/THINK]').split('[/THINK]')[-1] }}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Takes thoughts out of earlier turns by other tags, and writes none itself."""


@dataclass(frozen=True)
class Tagged:
    """A template, every special token of its tokenizer, and those that belong to answers."""

    real: Real
    belong: frozenset[str]


def _tagged(real: Real, belong: str = "", beside: str = "") -> Tagged:
    """Make all of some tags special: those that belong to answers, and others."""
    own = tuple(belong.split())
    return Tagged(replace(real, specials=(*real.specials, *own, *beside.split())), frozenset(own))


_IM = ("<|im_start|>", "<|im_end|>")
_V31 = "<think> </think> <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜>"
_ARGS = "<tool_call> </tool_call> <arg_key> </arg_key> <arg_value> </arg_value>"
_KIMI = "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> <|tool_call_end|> <|tool_call_argument_begin|>"
_MISTRAL = (
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)
_RESPONSE = "<tool_response> </tool_response>"
_THINK = "<think> </think>"
TAGGED = {
    "qwen2.5": _tagged(REAL["qwen2.5"], "<tool_call> </tool_call>", f"{_RESPONSE} {_THINK} <|vision_start|>"),
    "qwen3": _tagged(
        REAL["qwen3"], f"{_THINK} <tool_call> </tool_call>", f"{_RESPONSE} <tools> <|fim_prefix|>"
    ),
    "deepseek_r1": _tagged(REAL["deepseek_r1"], _THINK, "<｜tool▁calls▁begin｜>"),
    "deepseek_v3.1": _tagged(
        replace(REAL["deepseek_r1"], source=DEEPSEEK_V31),
        _V31,
        "<｜tool▁output▁begin｜> <｜tool▁output▁end｜>",
    ),
    "llama3.1": _tagged(REAL["llama3.1"], "", f"<|python_tag|> <|eom_id|> {_THINK}"),
    "mistral": _tagged(Real(MISTRAL_IDS, _MISTRAL, "</s>", "<s>"), "[TOOL_CALLS]", "[THINK] [/THINK]"),
    "gemma": _tagged(REAL["gemma"], "", _THINK),
    "phi4_mini": _tagged(
        Real(PHI4_MINI, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|end|>"),
        "<|tool_call|> <|/tool_call|>",
        "<|tool_response|> <|tool|> <|/tool|>",
    ),
    "glm4.5": _tagged(replace(REAL["glm4"], source=GLM45), f"{_THINK} {_ARGS}", _RESPONSE),
    "gpt_oss": _tagged(
        Real(GPT_OSS, ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"), "<|return|>"),
        "",
        "<|call|> <|constrain|>",
    ),
    "kimi": _tagged(
        Real(
            KIMI,
            ("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "<|im_end|>"),
            "<|im_end|>",
        ),
        _KIMI,
    ),
    "always_thinks": _tagged(Real(ALWAYS_THINKS, _IM, "<|im_end|>"), _THINK),
    "takes_out": _tagged(Real(TAKES_OUT, _IM, "<|im_end|>"), "[THINK] [/THINK]", _THINK),
}


@cache
def tagged_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer that has every tag of one of `TAGGED` as a special token."""
    own = TAGGED[name].real
    return made_of(own.specials, own.source, own.end, own.begin)
