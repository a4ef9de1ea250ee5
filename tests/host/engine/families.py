"""Tokenizers of the kinds of models that call tools, each loaded by mlx_lm like a real one, and what such models write.

A tokenizer has the family's own tokens, special where the family has them so, and a template with what mlx_lm knows the
family by. A recording is an answer as the family's template writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import load
from tokenizers import AddedToken

from mlxbridge.types import ToolCall
from tests.host.engine.tiny import byte_level_tokenizer, save_tokenizer

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather to come.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
WEATHER = ("get_weather", {"city": "Ærøskøbing, 日本", "days": 3})
NOW: tuple[str, dict[str, Any]] = ("now", {})
THOUGHT = "\nThe user asks for <b>weather</b> & more.\n"


@dataclass(frozen=True, eq=False)
class Recording:
    """What a model wrote, and what it comes to.

    Attributes:
        calls: name and arguments of each call; a text is a malformed one.
        ids: of the calls where the model gives them, else whatever the host draws.
    """

    written: str
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]] | str, ...] = ()
    ids: tuple[str, ...] = ()
    is_open: bool = False


@dataclass(frozen=True, eq=False)
class Family:
    """A kind of model.

    Attributes:
        parser: what mlx_lm calls it.
        tokens: its own, by whether they are special.
    """

    name: str
    parser: str
    template: str
    tokens: dict[str, bool]
    recordings: tuple[Recording, ...]
    defaults: dict[str, str] | None = None

    def tokenizer(self, folder: Path) -> Any:
        """mlx_lm's wrapper around the family's tokenizer."""
        plain = byte_level_tokenizer()
        plain.add_tokens([AddedToken(text, special=special) for text, special in self.tokens.items()])
        save_tokenizer(plain, folder, template=self.template)
        return load(folder, defaults=self.defaults)


THINK = {"<think>": False, "</think>": False}

HERMES = Family(
    "hermes",
    "json_tools",
    "{% for m in messages %}{{ m.content }}{% for tool_call in m.tool_calls %}<tool_call>{{ tool_call.name }}"
    "{% endfor %}{% endfor %}{{ tools }}{{ enable_thinking }}",
    {**THINK, "<tool_call>": False, "</tool_call>": False},
    (
        Recording(
            f"<think>{THOUGHT}</think>\n\nI look it up.\n<tool_call>\n"
            '{"name": "get_weather", "arguments": {"city": "Ærøskøbing, 日本", "days": 3}}\n</tool_call>\n'
            '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
            text="\n\nI look it up.\n\n",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            f"{THOUGHT}</think>No <tool, 1 < 2 <tool_cal> <<tool_call>x</tool_call> end <",
            text="No <tool, 1 < 2 <tool_cal> < end <",
            reasoning=THOUGHT,
            calls=("<tool_call>x</tool_call>",),
            is_open=True,
        ),
        Recording(
            '<tool_call>{"name": "now"}</tool_call><tool_call>{"name": "get_weather", "arguments": {"city": "Æ',
            calls=(NOW, '<tool_call>{"name": "get_weather", "arguments": {"city": "Æ'),
        ),
        Recording('<tool_call>{"name": "now", "arguments": {}}\n', calls=(NOW,)),
        Recording("<think>hm, <tool_call>{}", reasoning="hm, ", calls=("<tool_call>{}",)),
        Recording(
            'ok</think> <tool_call>{"name": 7}</tool_call> <tool_call>["now"]</tool_call>'
            '<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}</tool_call>',
            reasoning="ok",
            text="  ",
            calls=(
                '<tool_call>{"name": 7}</tool_call>',
                '<tool_call>["now"]</tool_call>',
                ("now", {"a": 1}),
            ),
            is_open=True,
        ),
    ),
)
MISTRAL = Family(
    "mistral",
    "mistral",
    "{{ messages[0].content }}[TOOL_CALLS]{{ tools }}",
    {"[TOOL_CALLS]": True, "[CALL_ID]": True, "[ARGS]": True, "[INST]": True},
    (
        Recording(
            'Let me see.[TOOL_CALLS]get_weather[ARGS]{"city": "Ærøskøbing, 日本", "days": 3}[TOOL_CALLS]now[ARGS]{}',
            text="Let me see.",
            calls=(WEATHER, NOW),
        ),
        Recording(
            '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Ærøskøbing, 日本", "days": 3}, '
            '"id": "a1b2c3d4e"}, {"name": "now", "arguments": {}, "id": "f1b2c3d4e"}]',
            calls=(WEATHER, NOW),
            ids=("a1b2c3d4e", "f1b2c3d4e"),
        ),
        Recording(
            '[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Ærøskøbing, 日本", "days": 3}'
            "[TOOL_CALLS]now[CALL_ID]f1b2c3d4e[ARGS]{}",
            calls=(WEATHER, NOW),
            ids=("a1b2c3d4e", "f1b2c3d4e"),
        ),
        Recording(
            '[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]get_weather[ARGS]{"city": "Æ',
            calls=(NOW, '[TOOL_CALLS]get_weather[ARGS]{"city": "Æ'),
        ),
        Recording("No [INST]tool[/INST] here [TOOL", text="No tool[/INST] here [TOOL"),
    ),
)
FUNCTION_GEMMA = Family(
    "function gemma",
    "function_gemma",
    "{{ messages[0].content }}<start_function_call>{{ tools }}",
    {"<start_function_call>": False, "<end_function_call>": False, "<escape>": True},
    (
        Recording(
            "<start_function_call>call:get_weather{city:<escape>Ærøskøbing, 日本<escape>,days:3}<end_function_call>"
            "<start_function_call>call:now{}<end_function_call>",
            calls=(WEATHER, NOW),
        ),
        Recording(
            "<start_function_call>call get_weather<end_function_call> <escape>or so",
            text=" or so",
            calls=("<start_function_call>call get_weather<end_function_call>",),
        ),
    ),
)
GEMMA4 = Family(
    "gemma 4",
    "gemma4",
    "{{ messages[0].content }}<|tool_call><tool_call|>{{ tools }}{{ enable_thinking }}",
    {
        "<|channel>": True,
        "<channel|>": True,
        "<|tool_call>": True,
        "<tool_call|>": True,
        '<|"|>': True,
        "<turn|>": True,
    },
    (
        Recording(
            f"<|channel>thought{THOUGHT}<channel|>Right.<|tool_call>call:get_weather"
            '{city:<|"|>Ærøskøbing, 日本<|"|>,days:3}<tool_call|><|tool_call>call:now{}<tool_call|>',
            text="Right.",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            '<turn|>A<|channel>B<|tool_call>call:get_weather{city:<|"|>Æ',
            text="A<|channel>B",
            calls=('<|tool_call>call:get_weather{city:<|"|>Æ',),
        ),
    ),
)
GLM = Family(
    "glm",
    "glm47",
    "{{ messages[0].content }}<tool_call><arg_key>{{ tools }}{{ enable_thinking }}",
    {
        **THINK,
        "<tool_call>": False,
        "</tool_call>": False,
        "<arg_key>": False,
        "</arg_key>": False,
        "<arg_value>": False,
        "</arg_value>": False,
    },
    (
        Recording(
            f"<think>{THOUGHT}</think><tool_call>get_weather\n<arg_key>city</arg_key>\n"
            "<arg_value>Ærøskøbing, 日本</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
            "<tool_call>now\n</tool_call>",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            "<tool_call>I will look at the sky</tool_call><tool_call>get_weather<arg_key>city</arg_key><arg_value>Æ",
            calls=(
                "<tool_call>I will look at the sky</tool_call>",
                "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Æ",
            ),
        ),
    ),
)
KIMI = Family(
    "kimi k2",
    "kimi_k2",
    "{{ messages[0].content }}<|tool_calls_section_begin|>{{ tools }}",
    {
        **THINK,
        "<|tool_calls_section_begin|>": True,
        "<|tool_calls_section_end|>": True,
        "<|tool_call_begin|>": True,
        "<|tool_call_argument_begin|>": True,
        "<|tool_call_end|>": True,
    },
    (
        Recording(
            f"<think>{THOUGHT}</think>Right.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
            '<|tool_call_argument_begin|>{"city": "Ærøskøbing, 日本", "days": 3}<|tool_call_end|>'
            "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_calls_section_end|>",
            text="Right.",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
            ids=("functions.get_weather:0", "functions.now:1"),
        ),
        Recording(
            "<|tool_calls_section_begin|><|tool_call_begin|>now<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|> so"
            "<|tool_calls_section_end|>.",
            text=".",
            calls=(
                "<|tool_call_begin|>now<|tool_call_argument_begin|>{}<|tool_call_end|>",
                NOW,
                "<|tool_calls_section_begin|> so<|tool_calls_section_end|>",
            ),
        ),
        Recording(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:7<|tool_call_argument_begin|>{}"
            "<|tool_call_end|><|tool_call_begin|>functions.now:8",
            calls=(NOW, "<|tool_call_begin|>functions.now:8"),
        ),
        Recording(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:7<|tool_call_argument_begin|>{}"
            "<|tool_calls_section_end|>",
            calls=("<|tool_call_begin|>functions.now:7<|tool_call_argument_begin|>{}",),
        ),
    ),
)
KIMI3 = Family(
    "kimi k3",
    "kimi_k3",
    "{{ messages[0].content }}{{ tools }}{{ thinking }}",
    {"<|open|>": True, "<|close|>": True, "<|sep|>": True, "<|end_of_msg|>": True},
    (
        Recording(
            f"<|open|>think<|sep|>{THOUGHT}<|close|>think<|sep|><|open|>response<|sep|>Right.<|close|>response<|sep|>"
            '<|open|>tools<|sep|>\n<|open|>call tool="get_weather" index="1"<|sep|>'
            '<|open|>argument key="city" type="string"<|sep|>Ærøskøbing, 日本<|close|>argument<|sep|>'
            '<|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|>\n'
            '<|open|>call tool="now" index="2"<|sep|><|close|>call<|sep|>\n<|close|>tools<|sep|>'
            "<|close|>message<|sep|>",
            text="Right.",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            '<|open|>tools<|sep|><|open|>call name="x"<|sep|><|close|>call<|sep|>'
            '<|open|>call tool="now"<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|open|>',
            text="<|open|>",
            calls=('<|open|>call name="x"<|sep|><|close|>call<|sep|>', NOW),
        ),
    ),
)
MINIMAX = Family(
    "minimax m2",
    "minimax_m2",
    "{{ messages[0].content }}<minimax:tool_call>{{ tools }}",
    {**THINK, "<minimax:tool_call>": False, "</minimax:tool_call>": False},
    (
        Recording(
            f'{THOUGHT}</think>\n\n<minimax:tool_call>\n<invoke name="get_weather">\n'
            '<parameter name="city">Ærøskøbing, 日本</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n'
            '<invoke name="now">\n</invoke>\n</minimax:tool_call>',
            text="\n\n",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
            is_open=True,
        ),
        Recording(
            '<minimax:tool_call><invoke name="now"></invoke><invoke name="get_weather"><parameter name="city">Æ',
            calls=(NOW, '<invoke name="get_weather"><parameter name="city">Æ'),
        ),
        Recording(
            "<minimax:tool_call>\nget_weather!\n</minimax:tool_call><minimax:tool_call></minimax:tool_call>",
            calls=(
                "<minimax:tool_call>\nget_weather!\n</minimax:tool_call>",
                "<minimax:tool_call></minimax:tool_call>",
            ),
        ),
    ),
)
QWEN_CODER = Family(
    "qwen3 coder",
    "qwen3_coder",
    "{{ messages[0].content }}<tool_call>\n<function={{ tools }}",
    {"<tool_call>": False, "</tool_call>": False},
    (
        Recording(
            "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nÆrøskøbing, 日本\n</parameter>\n"
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
            "<tool_call>\n<function=now>\n</function>\n</tool_call>",
            text="I look.\n\n",
            calls=(WEATHER, NOW),
        ),
        Recording(
            "<tool_call>\n<function=get_weather>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>",
            calls=(
                "<tool_call>\n<function=get_weather>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>",
            ),
        ),
    ),
)
PYTHONIC = Family(
    "lfm2",
    "pythonic",
    "{{ messages[0].content }}<|tool_list_start|>{{ tools }}",
    {"<|tool_call_start|>": True, "<|tool_call_end|>": True, "<|tool_list_start|>": True},
    (
        Recording(
            '<|tool_call_start|>[get_weather(city="Ærøskøbing, 日本", days=3), now()]<|tool_call_end|>Wait.',
            text="Wait.",
            calls=(WEATHER, NOW),
        ),
        Recording(
            '<|tool_list_start|>1 <|tool_call_start|>get_weather(city="Æ")<|tool_call_end|>',
            text="1 ",
            calls=('<|tool_call_start|>get_weather(city="Æ")<|tool_call_end|>',),
        ),
    ),
)
LONGCAT = Family(
    "longcat",
    "longcat",
    "{{ messages[0].content }}<longcat_tool_call>{{ tools }}",
    {
        "<longcat_think>": False,
        "</longcat_think>": False,
        "<longcat_tool_call>": False,
        "</longcat_tool_call>": False,
    },
    (
        Recording(
            f"<longcat_think>{THOUGHT}</longcat_think><longcat_tool_call>get_weather\n"
            "<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>Ærøskøbing, 日本</longcat_arg_value>\n"
            "<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>3</longcat_arg_value>\n</longcat_tool_call>"
            '<longcat_tool_call>{"name": "now", "arguments": {}}</longcat_tool_call>',
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            "<longcat_tool_call>now</longcat_tool_call>",
            calls=("<longcat_tool_call>now</longcat_tool_call>",),
        ),
    ),
)
MINICPM = Family(
    "minicpm 5",
    "minicpm5",
    '{{ messages[0].content }}<function name="<param name="{{ tools }}',
    {},
    (
        Recording(
            '<function name="get_weather"><param name="city"><![CDATA[Ærøskøbing, 日本]]></param>'
            '<param name="days">3</param></function>\n<function name="now"></function>',
            text="\n",
            calls=(WEATHER, NOW),
        ),
        Recording(
            'A <function names <function name="get_weather"><param name="city">Æ',
            text="A <function names ",
            calls=('<function name="get_weather"><param name="city">Æ',),
        ),
    ),
)
MUSE = Family(
    "muse spark",
    "muse_spark",
    "{{ messages[0].content }}<atem:function_calls>{{ tools }}",
    {
        "<|start|>": True,
        "<|message|>": True,
        "<|eom|>": True,
        "<|eot|>": True,
        "<atem:function_calls>": False,
        "</atem:function_calls>": False,
    },
    (
        Recording(
            f"to=self<|message|>{THOUGHT}<|eom|><|start|>assistant to=user<|message|>Right.<|eom|>"
            '<|start|>assistant to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n'
            '<atem:parameter name="city">Ærøskøbing, 日本</atem:parameter>\n'
            '<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n<atem:invoke name="now">\n</atem:invoke>\n'
            "</atem:function_calls><|eot|>",
            text="Right.",
            reasoning=THOUGHT,
            calls=(WEATHER, NOW),
        ),
        Recording(
            'to=x<|message|><atem:function_calls><atem:invoke name="now">',
            calls=('<atem:function_calls><atem:invoke name="now">',),
        ),
    ),
    {"chat_template_type": "muse_spark"},
)
FAMILIES = (
    HERMES,
    MISTRAL,
    FUNCTION_GEMMA,
    GEMMA4,
    GLM,
    KIMI,
    KIMI3,
    MINIMAX,
    QWEN_CODER,
    PYTHONIC,
    LONGCAT,
    MINICPM,
    MUSE,
)


def expected_calls(recording: Recording, found: list[ToolCall]) -> list[ToolCall]:
    """What the calls of a recording must be; ids that are not the model's own are taken as they were found."""
    expected = []
    for index, call in enumerate(recording.calls):
        if isinstance(call, str):
            expected.append(ToolCall(index=index, id="", name="", arguments=None, text=call, malformed=True))
            continue
        name, arguments = call
        call_id = recording.ids[index] if recording.ids else found[index].id
        text = found[index].text
        expected.append(ToolCall(index=index, id=call_id, name=name, arguments=arguments, text=text))
    return expected
