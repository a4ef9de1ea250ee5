"""What is configured for one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.store import ModelSource, classify

DEFAULT_KEEP_ALIVE_S = 1800.0
_LIMITS = EngineLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """One model that guests may use, and how it is run.

    Attributes:
        name: what guests call it.
        source: where its files are.
        aliases: other names for it.
        draft: the smaller model that drafts for it.
        adapters: folders of LoRA adapters by name; guests ask for ``NAME+ADAPTER``.
        preload: it is loaded when the host starts, not by the first call.
        pin: once loaded it is neither unloaded to make room for others nor when nobody uses it.
        keep_alive_s: seconds without a call after which it is unloaded; None: never; 0: at once.
        max_context: tokens of prompt and answer together, where that is to be less than the model's own.
        chat_template: Jinja source in place of the model's own.
        sampling: params of ``generate`` for calls that leave them out.
        limits: how much it takes on.
        own_limits: keys of ``limits`` that were configured for it alone, and have to do with text that it generates.
    """

    name: str
    source: ModelSource
    aliases: tuple[str, ...] = ()
    draft: ModelSource | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    preload: bool = True
    pin: bool = False
    keep_alive_s: float | None = DEFAULT_KEEP_ALIVE_S
    max_context: int | None = None
    chat_template: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    limits: EngineLimits = _LIMITS
    own_limits: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[ModelSource, ...]:
        """The model's own, then that of the model which drafts for it."""
        return (self.source,) if self.draft is None else (self.source, self.draft)

    @property
    def text_keys(self) -> list[str]:
        """What is configured for it alone, and of no use to a model that generates no text."""
        own = {
            "draft_model": self.draft,
            "adapters": self.adapters,
            "max_context": self.max_context,
            "chat_template": self.chat_template,
            "sampling": self.sampling,
        }
        return [*(name for name, value in own.items() if value), *self.own_limits]

    def load_params(self, sources: Sequence[ModelSource], memory_bytes: int | None) -> dict[str, Any]:
        """Params of a worker's ``load``.

        Args:
            sources: those of the model, with their files on this machine.
            memory_bytes: see ``EngineLimits``.
        """
        source, *drafts = sources
        return {
            **source.to_wire(),
            "name": self.name,
            "draft": drafts[0].to_wire() if drafts else None,
            "adapters": dict(self.adapters),
            "max_context": self.max_context,
            "chat_template": self.chat_template,
            "sampling": dict(self.sampling),
            "text_keys": self.text_keys,
            "limits": asdict(replace(self.limits, memory_bytes=memory_bytes)),
        }

    def complete(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """A generate call's params, and of ``sampling`` what they leave out."""
        if not self.sampling:
            return params
        return {**self.sampling, **{name: value for name, value in params.items() if value is not None}}

    @classmethod
    def of(cls, model: str, **others: Any) -> ModelSettings:
        """Those of a model that is given by nothing but what it is, see ``store.classify``.

        Args:
            others: more attributes.

        Raises:
            ModelNotFound, ModelLoadFailed: it is no model.
        """
        source = classify(model)
        return cls(name=source.name, source=source, **others)

    def with_same_worker(self, other: ModelSettings) -> bool:
        """Whether a worker that was loaded by the one would do for the other."""
        return all(getattr(self, name) == getattr(other, name) for name in _LOADED)


_LOADED = ("source", "draft", "adapters", "max_context", "chat_template", "limits")
