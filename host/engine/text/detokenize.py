"""Token ids to text as they come: whole characters only, no work done twice.

For the two common families (byte-level BPE, SentencePiece with byte fallback) a token stands for fixed bytes,
so an incremental UTF-8 decoder is all that is needed. mlx_lm's own streaming detokenizers are not used
because they drop the first token's space and misread some added tokens. Every other tokenizer is asked to
decode a short window of ids.

The pieces of an answer add up to ``tokenizer.decode(ids, skip_special_tokens=True)``. One difference: where a
SentencePiece model writes bytes that are not UTF-8, the number of replacement characters may differ.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Any, Protocol

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer

_new_utf8_decoder = getincrementaldecoder("utf-8")

# A character is at most 4 bytes, so 4 tokens, after tokens without text; a tail still broken after that is
# not UTF-8.
_MAX_TEXTLESS_TOKENS = 4
_MAX_PENDING_TOKENS = _MAX_TEXTLESS_TOKENS + 4


class Detokenizer(Protocol):
    """Turns one answer's tokens into text."""

    def push(self, token: int) -> str:
        """The text that this token completes: maybe none, never a part of a character."""

    def flush(self) -> str:
        """What is left at the end; bytes that are no character become U+FFFD."""


class Vocabulary:
    """Makes detokenizers for one tokenizer, and keeps what they share.

    Attributes:
        has_bytes: whether each token stands for fixed bytes.
        kind: of these, "bytes" (byte-level BPE) or "sentencepiece"; None of others.
        special: token ids that are no text of an answer: special ones, but for EOS and for what marks reasoning and tool
            calls.
    """

    def __init__(self, tokenizer: Any, *, shows_special: bool = False) -> None:
        """Take a tokenizer.

        Args:
            tokenizer: mlx_lm's ``TokenizerWrapper``.
            shows_special: let ``special`` tokens be text, for who reads more than an answer.
        """
        self._tokenizer = tokenizer
        ends = frozenset(tokenizer.eos_token_ids)
        self.special = _special_ids(tokenizer) - ends
        self._hidden = ends if shows_special else ends | self.special
        self._bytes: dict[int, bytes] = {}
        # mlx_lm has recognised the family from tokenizer.json; its verdict is the class it chose.
        chosen = tokenizer.detokenizer
        self._is_spm = isinstance(chosen, SPMStreamingDetokenizer)
        self._trim_space = self._is_spm and bool(chosen.trim_space)
        self.has_bytes = self._is_spm or isinstance(chosen, BPEStreamingDetokenizer)
        self.kind = ("sentencepiece" if self._is_spm else "bytes") if self.has_bytes else None

    def detokenizer(self, *, is_literal: bool = False) -> Detokenizer:
        """A fresh detokenizer for one answer; a literal one drops no space at the beginning."""
        if self.has_bytes:
            return ByteDetokenizer(self, trim_space=self._trim_space and not is_literal)
        return WindowDetokenizer(self)

    def bytes_of(self, token: int) -> bytes:
        """The UTF-8 bytes, maybe a part of a character, that a token stands for; none for special and unknown
        ones. Where tokens do not stand for fixed bytes: of the token's text by itself."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._look_up(token)
        return known

    def name_of(self, token: int) -> str:
        """What the tokenizer calls a token, which is the text of a special one; empty for an unknown one."""
        return str(self._tokenizer.convert_ids_to_tokens(token) or "")

    def names(self) -> dict[int, str]:
        """What the tokenizer calls the tokens that are text."""
        names: dict[str, int] = self._tokenizer.get_vocab()
        return {token: name for name, token in names.items() if token not in self._hidden}

    def spell(self, names: Mapping[int, str], size: int) -> list[bytes]:
        """``bytes_of`` every token below ``size`` from its name, where each has bytes; the tokenizer is not asked."""
        return [self._spell(names[token]) if token in names else b"" for token in range(size)]

    def decode(self, tokens: list[int]) -> str:
        """The tokenizer's own text for these tokens, special ones left out."""
        visible = [token for token in tokens if token not in self._hidden]
        return str(self._tokenizer.decode(visible, skip_special_tokens=False))

    def _look_up(self, token: int) -> bytes:
        if not self.has_bytes:
            return self.decode([token]).encode()
        name = None if token in self._hidden else self._tokenizer.convert_ids_to_tokens(token)
        return b"" if name is None else self._spell(name)

    def _spell(self, name: str) -> bytes:
        return _spm_bytes(name) if self._is_spm else _byte_level_bytes(name)


class ByteDetokenizer:
    """For tokenizers whose tokens stand for fixed bytes."""

    def __init__(self, vocabulary: Vocabulary, *, trim_space: bool) -> None:
        self._vocabulary = vocabulary
        self._decoder = _new_utf8_decoder("replace")
        # SentencePiece writes a space before the first word; decode drops that one space.
        self._trim_space = trim_space

    def push(self, token: int) -> str:
        """See Detokenizer."""
        return self._trim(self._decoder.decode(self._vocabulary.bytes_of(token)))

    def flush(self) -> str:
        """See Detokenizer."""
        return self._trim(self._decoder.decode(b"", final=True))

    def _trim(self, text: str) -> str:
        if self._trim_space and text:
            self._trim_space = False
            return text.removeprefix(" ")
        return text


class WindowDetokenizer:
    """For any tokenizer: decodes the last shown tokens with and without the new ones, and shows the
    difference.

    The shown ones are there so that the tokenizer sees the new ones in the middle of a text, not at its
    start.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._window: list[int] = []
        self._num_shown = 0
        self._shown = ""

    def push(self, token: int) -> str:
        """See Detokenizer."""
        self._window.append(token)
        text = self._vocabulary.decode(self._window)
        if text.endswith("\ufffd") and len(self._window) - self._num_shown < _MAX_PENDING_TOKENS:
            return ""
        if text == self._shown:
            # Tokens without text may matter to the next one, but must not make the window grow.
            del self._window[self._num_shown + _MAX_TEXTLESS_TOKENS :]
            return ""
        return self._show(text)

    def flush(self) -> str:
        """See Detokenizer."""
        return self._show(self._vocabulary.decode(self._window))

    def _show(self, text: str) -> str:
        new = text[len(self._shown) :]
        self._window = self._window[self._num_shown :]
        self._num_shown = len(self._window)
        self._shown = self._vocabulary.decode(self._window)
        return new


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {token for token, entry in added.items() if entry.special}.union(tokenizer.all_special_ids)
    # Some models mark reasoning and tool calls with special tokens; whoever parses the text must still see
    # them.
    markers = (
        tokenizer.think_start_tokens,
        tokenizer.think_end_tokens,
        tokenizer.tool_call_start_tokens,
        tokenizer.tool_call_end_tokens,
    )
    special.difference_update(*(marker for marker in markers if marker))
    return frozenset(special)


def _spm_bytes(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace("\u2581", " ").encode()


def _byte_level_bytes(name: str) -> bytes:
    # As in the tokenizers crate: a name that is not spelled in byte characters throughout is plain text.
    try:
        return name.translate(_BYTE_OF_CHAR).encode("latin-1")
    except UnicodeEncodeError:
        return name.encode()


def _byte_characters() -> dict[int, int]:
    """GPT-2's spelling of bytes: printable ones as themselves, the rest from U+0100 on, in order; those others
    themselves spell nothing."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: 0xFFFD for byte in others} | {0x100 + i: byte for i, byte in enumerate(others)}


_BYTE_OF_CHAR = _byte_characters()
