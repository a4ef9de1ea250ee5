"""As ``input_methods``, on an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Unpack

from mlxbridge.guest.async_caller import AsyncCaller
from mlxbridge.guest.tokens import detokenize_params, read_count, read_text, read_token_ids, tokenize_params
from mlxbridge.types import KeepAlive, Message, TokenizeOptions

if TYPE_CHECKING:
    from mlxbridge.types import Embeddings, EmbedInput, EmbedOptions, Ranking, RerankOptions


class AsyncInputMethods:
    """As ``InputMethods``."""

    _caller: AsyncCaller

    async def embed(
        self, inputs: EmbedInput | Iterable[EmbedInput], **options: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Turn each input into a vector; arguments and errors as for ``Client.embed``."""
        from mlxbridge.guest.vectors import WINDOWS, embed_params, read_embeddings

        params = embed_params(inputs, options)
        return read_embeddings(
            *await self._caller.fetch(
                "embed", params, options.get("timeout"), WINDOWS, retry=options.get("retry")
            )
        )

    async def rerank(self, query: str, documents: Iterable[str], **options: Unpack[RerankOptions]) -> Ranking:
        """Score each document by how well it answers the query; arguments and errors as for ``Client.rerank``."""
        from mlxbridge.guest.vectors import read_ranking, rerank_params

        params = rerank_params(query, documents, options)
        result, _ = await self._caller.fetch(
            "rerank", params, options.get("timeout"), retry=options.get("retry")
        )
        return read_ranking(result, params["documents"])

    async def tokenize(
        self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]
    ) -> list[int]:
        """Token ids of a text or a chat; arguments and errors as for ``Client.tokenize``."""
        params = tokenize_params(prompt, options)
        return read_token_ids(await self._caller.ask("tokenize", params, options.get("timeout")))

    async def count_tokens(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> int:
        """How many they are; arguments and errors as for ``Client.tokenize``."""
        params = tokenize_params(prompt, options, count_only=True)
        return read_count(await self._caller.ask("tokenize", params, options.get("timeout")))

    async def detokenize(
        self,
        token_ids: Iterable[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool = False,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of tokens; arguments and errors as for ``Client.detokenize``."""
        params = detokenize_params(token_ids, model, skip_special_tokens, keep_alive)
        return read_text(await self._caller.ask("detokenize", params, timeout))
