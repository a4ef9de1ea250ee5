"""Texts to token ids, by a model's ``tokenizer.json``, within the model's limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from mlxbridge.errors import BridgeError, ContextTooLong, ModelLoadFailed
from mlxbridge.host.engine.refusal import invalid, unsupported
from mlxbridge.host.engine.token_request import DetokenizeRequest, TokenizeRequest

# A text is read whole before its tokens can be counted, and so much takes a tenth of a second or more.
MAX_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a model reads of one input.

    Attributes:
        ids: token ids, special ones among them.
        type_ids: 1 for the second text of a pair and what ends it, where the model is told, else 0.
        is_truncated: whether its end was cut off.
    """

    ids: list[int]
    type_ids: list[int]
    is_truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSettings:
    """What a model's files say of tokenizing beside ``tokenizer.json``.

    Attributes:
        lowercases: whether texts are lowercased before they are tokenized.
        has_types: whether the model is told which text of a pair a token belongs to.
        first_token: that every input begins with, by its name; None if the files do not say.
        last_token: the same for its end.
    """

    lowercases: bool = False
    has_types: bool = True
    first_token: str | None = None
    last_token: str | None = None


class TextTokenizer:
    """A tokenizer with a limit.

    Args:
        folder: where ``tokenizer.json`` is.
        name: of the model, for errors.
        max_tokens: of an input.
        vocabulary_size: rows that the model has for tokens.
        settings: what other files say.

    Attributes:
        max_tokens: of an input, special tokens among them.

    Raises:
        ModelLoadFailed: there is no ``tokenizer.json``, it is damaged, or does not add the tokens that it should.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        max_tokens: int,
        vocabulary_size: int,
        settings: TokenizerSettings,
    ) -> None:
        self.max_tokens = max_tokens
        self._name = name
        self._vocabulary_size = vocabulary_size
        self._has_types = settings.has_types
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadFailed(
                "it lacks tokenizer.json; transformers' AutoTokenizer makes one of other files (save_pretrained)"
            )
        load: Any = Tokenizer.from_file
        try:
            self._tokenizer = load(str(path))
        except Exception as exc:  # tokenizers raises nothing finer
            raise ModelLoadFailed(f"tokenizer.json is damaged ({exc})") from exc
        # What the file says of these is what its author happened to train with.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if settings.lowercases:
            own = self._tokenizer.normalizer
            lower = normalizers.Lowercase()
            self._tokenizer.normalizer = normalizers.Sequence([lower, own]) if own else lower
        self._check_ends(settings)

    def _check_ends(self, settings: TokenizerSettings) -> None:
        # Without its last token, say, a model that pools by that makes vectors that only look right.
        tokens = self._tokenizer.encode("a").tokens
        for place, wanted in ((0, settings.first_token), (-1, settings.last_token)):
            if wanted is not None and (not tokens or tokens[place] != wanted):
                raise ModelLoadFailed(
                    f"tokenizer_config.json says that {wanted!r} is added to texts, which tokenizer.json does not do; "
                    "transformers' AutoTokenizer makes a new one of both (save_pretrained)"
                )

    def encode(self, texts: Sequence[str], fields: Sequence[str], *, truncate: bool) -> list[Tokens]:
        """Token ids of texts.

        Args:
            texts: to encode.
            fields: what each of them is called in errors.
            truncate: whether the end of what is too long is cut off; special tokens stay.

        Raises:
            InvalidArgument: a text has no tokens, one that the model has no row for, or half a character (a lone
                surrogate).
            ContextTooLong: one has more tokens than the model takes, and ``truncate`` is false.
        """
        return self._encoded(texts, fields, truncate)

    def encode_pairs(
        self, first: str, seconds: Sequence[str], fields: Sequence[str], *, truncate: bool
    ) -> list[Tokens]:
        """Token ids of one text with each of others; truncated is the longer text of a pair. As ``encode``."""
        return self._encoded([(first, second) for second in seconds], fields, truncate)

    def fit_ids(self, ids: Sequence[int], field: str, *, truncate: bool) -> Tokens:
        """Token ids from a caller; the end of what is too long is cut off, special tokens as others. As ``encode``."""
        if not ids:
            raise invalid(field, "has no tokens")
        if len(ids) > self.max_tokens and not truncate:
            raise self._too_long(field, len(ids))
        self._check_vocabulary(ids, field)
        kept = list(ids[: self.max_tokens])
        return Tokens(kept, [0] * len(kept), is_truncated=len(kept) < len(ids))

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """Token ids of a text, as the model reads it alone, however many.

        Raises:
            Unsupported: it is a chat.
            InvalidArgument: it holds half a character.
        """
        text = request.source.prompt
        if not isinstance(text, str):
            raise unsupported("messages", f"cannot be used: {self._name} has no chat template; give a text")
        adds_special = request.add_special_tokens is not False
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=adds_special).ids)
        except Exception as exc:
            if (error := _half_character([text], ["prompt"])) is not None:
                raise error from exc
            raise

    def detokenize(self, request: DetokenizeRequest) -> str:
        """The text of tokens, as far as the tokenizer has kept it.

        Raises:
            InvalidArgument: the model has no such token.
        """
        if request.token_ids:
            self._check_vocabulary(request.token_ids, "token_ids")
        return str(
            self._tokenizer.decode(list(request.token_ids), skip_special_tokens=request.skip_special_tokens)
        )

    def _encoded(
        self, items: Sequence[str | tuple[str, str]], fields: Sequence[str], truncate: bool
    ) -> list[Tokens]:
        for item, field in zip(items, fields, strict=True):
            num_chars = len(item) if isinstance(item, str) else sum(map(len, item))
            if num_chars > MAX_CHARS:
                raise ContextTooLong(
                    f"{field} has {num_chars} characters; at most {MAX_CHARS} are read",
                    details={"field": field, "max_characters": MAX_CHARS, "num_characters": num_chars},
                )
        if truncate:
            self._tokenizer.enable_truncation(self.max_tokens)
        try:
            encodings: list[Any] = self._tokenizer.encode_batch(list(items))
        except Exception as exc:
            if (error := _half_character(items, fields)) is not None:
                raise error from exc
            raise
        finally:
            self._tokenizer.no_truncation()
        return [self._fit(encoding, field) for encoding, field in zip(encodings, fields, strict=True)]

    def _fit(self, encoding: Any, field: str) -> Tokens:
        num_tokens = len(encoding)
        if not num_tokens:
            raise invalid(field, "has no tokens")
        if num_tokens > self.max_tokens:
            raise self._too_long(field, num_tokens)
        self._check_vocabulary(encoding.ids, field)
        type_ids = encoding.type_ids if self._has_types else [0] * num_tokens
        return Tokens(encoding.ids, type_ids, is_truncated=bool(encoding.overflowing))

    def _check_vocabulary(self, ids: Sequence[int], field: str) -> None:
        # A text can name special tokens that the tokenizer knows and the weights have no row for.
        if min(ids) < 0 or max(ids) >= self._vocabulary_size:
            token = next(token for token in ids if not 0 <= token < self._vocabulary_size)
            raise invalid(
                field, f"holds token {token}, but the ids of {self._name} end at {self._vocabulary_size - 1}"
            )

    def _too_long(self, field: str, num_tokens: int) -> ContextTooLong:
        return ContextTooLong(
            f"{field} has {num_tokens} tokens, but {self._name} takes {self.max_tokens}: shorten it, or give truncate as true",
            details={"field": field, "num_tokens": num_tokens, "max_tokens": self.max_tokens},
        )


def _half_character(items: Sequence[str | tuple[str, str]], fields: Sequence[str]) -> BridgeError | None:
    for item, field in zip(items, fields, strict=True):
        try:
            "".join(item).encode()
        except UnicodeEncodeError:
            return invalid(field, "holds half a character (a lone surrogate)")
    return None
