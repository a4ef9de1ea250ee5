"""The methods of a blocking client that read texts and write none: vectors, ranks, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Unpack

from mlxbridge.guest.caller import Caller
from mlxbridge.guest.tokens import detokenize_params, read_count, read_text, read_token_ids, tokenize_params
from mlxbridge.types import KeepAlive, Message, TokenizeOptions

if TYPE_CHECKING:
    from mlxbridge.types import Embeddings, EmbedInput, EmbedOptions, Ranking, RerankOptions


class InputMethods:
    """``Client``'s methods that read texts and write none: vectors, ranks, tokens."""

    _caller: Caller

    def embed(self, inputs: EmbedInput | Iterable[EmbedInput], **options: Unpack[EmbedOptions]) -> Embeddings:
        """Turn each input into a vector; inputs of many calls and guests share the host's batches.

        Args:
            inputs: a text, or token ids; or several, each of either kind.
            options: ``mlxbridge.EmbedOptions`` names and explains them.

        Returns:
            One vector for each input, in their order: ``shape`` is ``(inputs, dimensions)`` for one input and for none, too.
            An empty text is an input like others, if the model's tokenizer adds special tokens; else it is refused.

        Raises:
            UsageError: the inputs are none, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter, or the model embeds nothing; ``details["field"]``
                names it.
            ContextTooLong: an input is over the model's limit; ``details`` has ``field``, ``num_tokens`` and ``max_tokens``.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> found = client.embed(["A cat sleeps.", "Rates rose."], model="all-MiniLM-L6-v2")
            >>> found.shape[0], found.dtype
            (2, 'float32')
            >>> first, second = found.tolist()
        """
        from mlxbridge.guest.vectors import WINDOWS, embed_params, read_embeddings

        params = embed_params(inputs, options)
        return read_embeddings(
            *self._caller.fetch("embed", params, options.get("timeout"), WINDOWS, retry=options.get("retry"))
        )

    def rerank(self, query: str, documents: Iterable[str], **options: Unpack[RerankOptions]) -> Ranking:
        """Score each document by how well it answers the query, with a model that reads both at once.

        Args:
            query: a text.
            documents: texts.
            options: ``mlxbridge.RerankOptions`` names and explains them.

        Returns:
            The documents, best first; of equal ones the first.

        Raises:
            UsageError: the documents are none, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter, or the model is no reranker; ``details["field"]``
                names it.
            ContextTooLong: a pair is over the model's limit; ``details`` has ``field``, ``num_tokens`` and ``max_tokens``.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> texts = ["A cat sleeps.", "Rates rose.", "It rains."]
            >>> ranking = client.rerank("Who sleeps?", texts, model="ms-marco-MiniLM-L6-v2", top_n=2)
            >>> len(ranking), ranking[0].score >= ranking[1].score
            (2, True)
        """
        from mlxbridge.guest.vectors import read_ranking, rerank_params

        params = rerank_params(query, documents, options)
        result, _ = self._caller.fetch("rerank", params, options.get("timeout"), retry=options.get("retry"))
        return read_ranking(result, params["documents"])

    def tokenize(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> list[int]:
        """The tokens that a model reads of a text or a chat; the model's tokenizer answers, not the model.

        Args:
            prompt: raw text, as in ``generate``, or messages, which go through the chat template.
            options: ``mlxbridge.TokenizeOptions`` names and explains them.

        Returns:
            Token ids, special tokens among them. Of an embedding model or a reranker: those of the text alone.

        Raises:
            UsageError: it is neither, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter; ``details["field"]`` names it. A call takes
                1,048,576 characters.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> ids = client.tokenize("27 + 15", add_special_tokens=False)
            >>> client.detokenize(ids)
            '27 + 15'
        """
        params = tokenize_params(prompt, options)
        return read_token_ids(self._caller.ask("tokenize", params, options.get("timeout")))

    def count_tokens(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> int:
        """How many tokens ``tokenize`` would give; of a chat what ``chat`` then has as ``usage.prompt_tokens``.

        Arguments and errors are those of ``tokenize``.

        Example:
            >>> messages = [{"role": "user", "content": "What is 27 + 15?"}]
            >>> client.count_tokens(messages) == client.chat(messages).usage.prompt_tokens
            True
        """
        params = tokenize_params(prompt, options, count_only=True)
        return read_count(self._caller.ask("tokenize", params, options.get("timeout")))

    def detokenize(
        self,
        token_ids: Iterable[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool = False,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of tokens; bytes that are no whole character become U+FFFD.

        Args:
            token_ids: at most 65,536.
            model: its name at the host; not needed where the host serves one, or has a default.
            skip_special_tokens: leave out BOS, EOS and the like.
            keep_alive: as for ``generate``.
            timeout: seconds.

        Raises:
            UsageError: they are no token ids.
            InvalidArgument: the model has no such token, or they are too many; ``details["field"]`` names it.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> client.detokenize(client.tokenize("Hello"), skip_special_tokens=True)
            'Hello'
        """
        params = detokenize_params(token_ids, model, skip_special_tokens, keep_alive)
        return read_text(self._caller.ask("detokenize", params, timeout))
