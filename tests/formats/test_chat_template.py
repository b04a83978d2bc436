"""A chat template writes a conversation, and can do nothing else: it is a program from elsewhere."""

import os
import time

import pytest

from handgrad.errors import UserError
from handgrad.formats import chat_template
from handgrad.formats.chat_template import render

MESSAGES = [{"role": "user", "content": "Hello <b>"}, {"role": "assistant", "content": "Hi"}]
CHATML = """{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""


def test_a_conversation_is_written_up_to_the_answer():
    assert render(CHATML, MESSAGES) == (
        "<|im_start|>user\nHello <b><|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(CHATML, [], add_generation_prompt=False) == ""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] | trim }}{{ eos_token }}", "<s>Hello <b></s>"),
        ("{% generation %}{{ messages | length }}{% endgeneration %}", "2"),
        (
            "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            "user",
        ),
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": "Hi"}'),
        ("{{ {'ä': '<'} | tojson(indent=1) }}", '{\n "ä": "<"\n}'),
        ("{% if tools %}tools{% endif %}{{ none_such }}", ""),
        (
            "{% set n = namespace(n=0) %}{% for m in [1, 1] %}{% set n.n = n.n + m %}{% endfor %}{{ n.n }}",
            "2",
        ),
        ("{% macro say(x) %}{{ x }}!{% endmacro %}{{ say('a') }}", "a!"),
    ],
)
def test_templates_have_the_names_that_transformers_gives_them(template, text):
    assert render(template, MESSAGES, "<s>", "</s>") == text


def test_it_may_ask_for_the_date():
    assert render("{{ strftime_now('%Y') }}", []) == time.strftime("%Y")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere there are no sessions")
def test_a_terminals_ctrl_c_does_not_end_it():
    assert render("{{ 1 }}", []) == "1"
    assert os.getsid(chat_template._process._running.pid) != os.getsid(0)


def test_what_it_refuses_is_said_in_its_own_words():
    with pytest.raises(UserError, match="Roles must alternate"):
        render("{{ raise_exception('Roles must alternate') }}", MESSAGES)
    with pytest.raises(UserError, match="TemplateSyntaxError"):
        render("{% for %}", MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['sys'] }}",
        "{{ messages.append(1) }}",
        "{{ strftime_now.__init__.__globals__['__builtins__'] }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_it_reaches_nothing_outside(template):
    with pytest.raises(UserError, match="does not write this conversation"):
        render(template, MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = 9 ** (9 ** 9) %}",
        "{{ 'a' * 9999999999 }}",
        "{{ 'a' | center(9999999999) }}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 100 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_that_never_ends_is_ended(template, monkeypatch):
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    with pytest.raises(UserError, match=r"longer than|more than|without end|MemoryError|Overflow"):
        render(template, MESSAGES)
    monkeypatch.undo()
    assert render("{{ messages[1].content }}", MESSAGES) == "Hi"


@pytest.mark.parametrize(
    "message", ["Hello", {"role": "user"}, {"content": "Hello"}, {"role": 1, "content": ""}]
)
def test_a_message_has_a_role_and_a_content(message):
    with pytest.raises(UserError, match="role and a content"):
        render(CHATML, [message])
