"""Texts and chats to token ids, and back, for whoever wants these and no answer."""

from __future__ import annotations

from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid
from mlxbridge.host.engine.text.chat import Chat
from mlxbridge.host.engine.token_request import DetokenizeRequest, TokenizeRequest, check_num_chars


class Codec:
    """A model's tokenizer and its chat template. Methods may run in another thread, beside the engine's steps."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """Token ids: those that ``generate`` would have the model read, if the request leaves that so.

        Raises:
            InvalidArgument: a message has a wrong shape, or the chat template refuses it; or it is too long.
            Unsupported: what goes to the template has no place there; ``details["field"]`` names it.
        """
        source = request.source
        if isinstance(source.prompt, str):
            return encode_text(self._loaded, source.prompt, request.add_special_tokens)
        chat = Chat(self._loaded, source)
        check_num_chars("messages", chat.num_chars)
        return chat.encode(with_answer=request.add_generation_prompt)

    def detokenize(self, request: DetokenizeRequest) -> str:
        """The text of tokens; bytes that are no whole character become U+FFFD.

        Raises:
            InvalidArgument: the model has no such token.
        """
        size = self._loaded.vocabulary_size
        for place, token in enumerate(request.token_ids):
            if token >= size:
                raise invalid(
                    f"token_ids[{place}]", f"is {token}, but the ids of {self._loaded.name} end at {size - 1}"
                )
        return str(
            self._loaded.tokenizer.decode(
                list(request.token_ids),
                skip_special_tokens=request.skip_special_tokens,
                clean_up_tokenization_spaces=False,  # which would not give back what was tokenized
            )
        )


def encode_text(loaded: LoadedModel, text: str, add_special_tokens: bool | None = None) -> list[int]:
    """Token ids of a text; special tokens, by None, as mlx_lm.generate has them: unless it begins with BOS.

    Raises:
        InvalidArgument: it cannot be encoded.
    """
    tokenizer = loaded.tokenizer
    if add_special_tokens is None:
        add_special_tokens = tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)
    try:
        return list(tokenizer.encode(text, add_special_tokens=add_special_tokens))
    except Exception as exc:  # such as TypeError for a lone surrogate
        raise invalid("prompt", f"could not be encoded: {exc}") from exc
