"""``Tokenizer``: a host's tokenizer, as far as it can be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlxbridge.compat.refusal import MissingAttribute, refuse_all, refused
from mlxbridge.types import AnyTool, Message

if TYPE_CHECKING:
    from mlxbridge.compat.mlx_lm.model import Model

_TEMPLATE = {
    "continue_final_message": (
        False,
        "the host's chat template begins an answer, or does not; it continues none",
    ),
    "chat_template": (None, "the host has the template; its configuration can set another one"),
    "padding": (False, "the host pads nothing"),
    "truncation": (False, "the host cuts no prompt"),
    "max_length": (None, "the host cuts no prompt"),
    "return_tensors": (None, "token ids come as a list"),
    "return_dict": (False, "token ids come as a list"),
    "documents": (None, "give it as a variable of the template: it has to be in the host's"),
    "return_assistant_tokens_mask": (False, "the host tells of no mask"),
    "tokenizer_kwargs": (None, "the host's tokenizer takes none"),
}
_CODING = {
    "padding": (False, "the host pads nothing"),
    "truncation": (False, "the host cuts no text"),
    "max_length": (None, "the host cuts no text"),
    "return_tensors": (None, "token ids come as a list"),
    "clean_up_tokenization_spaces": (None, "the host decodes as the model's files say"),
}
_FACTS = (
    *("bos_token", "bos_token_id", "eos_token", "eos_token_id", "pad_token", "pad_token_id"),
    *("unk_token", "unk_token_id", "has_chat_template"),
)
_THERE_IS = (
    *("encode", "decode", "apply_chat_template", "chat_template", "eos_token_ids", "has_tool_calling"),
    *("vocab_size", "len()", *_FACTS),
)


class Tokenizer:
    """What ``load`` gives beside the model. Each call of a method is one to the host.

    Attributes:
        bos_token, bos_token_id: and the same of ``eos``, ``pad`` and ``unk``; None where there is none.
        has_chat_template: whether ``apply_chat_template`` works.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def encode(self, text: str, *, add_special_tokens: bool = True, **options: Any) -> list[int]:
        """Token ids of a text.

        Raises:
            UsageError: an option is none that the host has.
            BridgeError: as ``Client.tokenize``.
        """
        refuse_all(options, _CODING, "encode")
        return self._model.client.tokenize(
            text, model=self._model.name, add_special_tokens=add_special_tokens
        )

    def decode(
        self, token_ids: int | Iterable[int], *, skip_special_tokens: bool = False, **options: Any
    ) -> str:
        """The text of tokens; errors as for ``encode``."""
        refuse_all(options, _CODING, "decode")
        ids = [token_ids] if isinstance(token_ids, int) else as_token_ids("token_ids", token_ids)
        return self._model.client.detokenize(
            ids, model=self._model.name, skip_special_tokens=skip_special_tokens
        )

    def apply_chat_template(
        self,
        conversation: Sequence[Message],
        *,
        tools: Sequence[AnyTool] | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        **options: Any,
    ) -> Any:
        """A chat as the model reads it.

        Args:
            conversation: messages.
            tools: functions or schemas that the model is told of.
            add_generation_prompt: end with what begins an answer.
            tokenize: give token ids; else their text.
            options: variables of the chat template, such as ``enable_thinking``.

        Returns:
            Token ids, or with ``tokenize=False`` a text.

        Raises:
            UsageError: there is no such thing here, or the text would be other tokens if it were read.
            BridgeError: as ``Client.tokenize``.
        """
        own = {name: options.pop(name) for name in _TEMPLATE if name in options}
        refuse_all(own, _TEMPLATE, "apply_chat_template")
        client, name = self._model.client, self._model.name
        ids = client.tokenize(
            conversation,
            model=name,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            chat_template_kwargs=options or None,
        )
        if tokenize:
            return ids
        text = client.detokenize(ids, model=name)
        if client.tokenize(text, model=name, add_special_tokens=False) != ids:
            raise refused(
                "tokenize",
                "this chat has no text that is read as the same tokens; leave tokenize=False out: generate takes token ids",
            )
        return text

    @property
    def chat_template(self) -> str | None:
        """The text of the model's chat template; None if it has none. The host tells it once."""
        text = self._shown.get("chat_template")
        return text if isinstance(text, str) else None

    @property
    def has_tool_calling(self) -> bool:
        """Whether the chat template tells the model of tools."""
        return "tools" in self._shown.get("capabilities", ())

    @property
    def eos_token_ids(self) -> set[int]:
        """Tokens that end an answer."""
        return set(self._facts["eos_token_ids"])

    @property
    def vocab_size(self) -> int:
        """Tokens that the model has a logit for."""
        return int(self._model.details["vocabulary_size"])

    @property
    def kind(self) -> str | None:
        """ "bytes" (byte-level BPE), "sentencepiece", or None for others."""
        kind = self._facts["kind"]
        return kind if isinstance(kind, str) else None

    @cached_property
    def _shown(self) -> Mapping[str, Any]:
        return self._model.client.show_model(self._model.name).details

    @property
    def _facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] | None = self._model.details.get("tokenizer")
        if facts is None:
            raise refused(
                "tokenizer",
                f"the host tells nothing of that of {self._model.name}, "
                "which is no model that generates; or else the host is older than this library",
            )
        return facts

    def __len__(self) -> int:
        return int(self._facts["size"])

    def __getattr__(self, name: str) -> Any:
        if name in _FACTS:
            return self._facts[name]
        raise MissingAttribute(
            f"the tokenizer is at the host, and {name!r} cannot be asked there; there is {', '.join(_THERE_IS)}"
        )

    def __repr__(self) -> str:
        return f"Tokenizer({self._model.name!r})"


def as_token_ids(field: str, given: Any) -> list[int]:
    """Token ids out of a list, or an array of mlx's, numpy's or the like.

    Raises:
        UsageError: these are none.
    """
    ids = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise refused(field, f"must be token ids, not {type(given).__name__}")
    found = list(ids)
    if not all(isinstance(one, int) for one in found):
        raise refused(field, "must be token ids of one text: whole numbers, in one dimension")
    return found
