"""Whether and by whom tokens are drafted for a model's calls, and what has been learnt of that."""

from __future__ import annotations

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import can_be_padded
from mlxbridge.host.engine.caches.footprint import Footprint
from mlxbridge.host.engine.drafts.acceptance import Acceptance
from mlxbridge.host.engine.drafts.draft_model import DraftModel, difference
from mlxbridge.host.engine.drafts.payoff import Costs
from mlxbridge.host.engine.exactness import is_exact_over_drafts
from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import MAX_MESSAGE_CHARS, invalid, unsupported
from mlxbridge.host.engine.settings import DraftSettings


class Speculator:
    """What all lanes draft with.

    Attributes:
        model: the draft model, None if there is none.
        context_length: tokens that a row may have, None if the model does not say.
        costs: what passes have taken.
        usual: what becomes of drafts, by whether the draft model makes them.
    """

    def __init__(
        self, loaded: LoadedModel, plan: CachePlan, draft: LoadedModel | None, *, is_batched: bool
    ) -> None:
        """Run the model on a few short drafts, to see if it answers the same.

        Args:
            loaded: the model.
            plan: its caches.
            draft: a smaller one of the same vocabulary.
            is_batched: whether rows are decoded together.

        Raises:
            ModelLoadFailed: that one cannot draft for the model; the message says why.
        """
        self._name = loaded.name
        self._obstacle = _obstacle(plan, loaded.vocabulary_size, is_batched=is_batched)
        self._prefix_bytes = 0
        self.context_length = loaded.context_length
        self.model = None
        if draft is not None:
            reason = self._obstacle or difference(draft, loaded)
            if reason is not None:
                raise ModelLoadFailed(
                    f"{draft.name} cannot draft for {loaded.name}: {reason}"[:MAX_MESSAGE_CHARS]
                )
            self.model = DraftModel(draft, loaded)
        self.start_afresh()

    def take_share(self, prefix_bytes: int, footprint: Footprint) -> int:
        """Of the memory for cached prefixes, what the draft model takes: each model keeps the same prompts.

        Args:
            prefix_bytes: for both models.
            footprint: of the model's own caches.
        """
        if self.model is not None:
            own, other = self.model.footprint.token_bytes, footprint.token_bytes
            self._prefix_bytes = prefix_bytes * own // (own + other)
        return self._prefix_bytes

    def reset(self) -> None:
        """Forget what the draft model has read, and is reading."""
        if self.model is not None:
            self.model.start_afresh(self._prefix_bytes)

    def start_afresh(self) -> None:
        """Count from zero, and forget what was learnt."""
        self.costs = Costs()
        self._num_drafted = 0
        self._num_accepted = 0
        # To begin with: what was said before comes again now and then, and a draft model knows a good deal.
        self.usual = {True: Acceptance(0.7, 1.0), False: Acceptance(0.5, 0.3)}

    @property
    def methods(self) -> list[str]:
        """What a request may ask for, beside "off"."""
        if self._obstacle is not None:
            return []
        return ["ngram"] if self.model is None else ["ngram", "draft"]

    @property
    def num_weight_bytes(self) -> int:
        """What the draft model's weights take."""
        return 0 if self.model is None else self.model.num_weight_bytes

    @property
    def num_bytes(self) -> int:
        """What the draft model's caches take of contexts that it is reading."""
        return 0 if self.model is None else self.model.num_bytes

    def count(self, num_drafted: int, num_accepted: int) -> None:
        """So many tokens were drafted and checked, and so many of them were right."""
        self._num_drafted += num_drafted
        self._num_accepted += num_accepted

    def stats(self) -> dict[str, int]:
        """Counters.

        Since the start: ``draft_tokens_total`` and, of these, ``accepted_tokens_total``. Now, with a draft model:
        ``draft_prefix_bytes`` of what it has read before.
        """
        counters = {"draft_tokens_total": self._num_drafted, "accepted_tokens_total": self._num_accepted}
        if self.model is not None:
            counters["draft_prefix_bytes"] = self.model.prefixes.stats()["prefix_cache_bytes"]
        return counters

    def footprint(self, footprint: Footprint) -> Footprint:
        """What a row takes, the draft model's caches of it among that.

        Args:
            footprint: what it takes in the model's own.
        """
        return footprint if self.model is None else footprint.beside(self.model.footprint)

    def settings_of(self, request: GenerateRequest) -> DraftSettings | None:
        """How tokens are drafted for a request; None if none are.

        Raises:
            Unsupported: it asks for what there is not.
            InvalidArgument: ``max_draft_tokens`` bounds nothing.
        """
        obstacle = _obstacle_in(request)
        wanted = request.speculation or ("off" if self.model is None or obstacle is not None else "draft")
        if wanted == "off":
            if request.max_draft_tokens is not None:
                raise invalid("max_draft_tokens", "has nothing to bound: speculation is off")
            return None
        if obstacle is not None:
            raise unsupported("speculation", f"cannot be {wanted} with {obstacle}")
        if self._obstacle is not None:
            raise unsupported("speculation", f"cannot be {wanted} for {self._name}: {self._obstacle}")
        if wanted not in self.methods:
            raise unsupported(
                "speculation",
                f"cannot be {wanted}: this host has no draft model for {self._name}; ngram needs none",
            )
        return DraftSettings(by_model=wanted == "draft", most=request.max_draft_tokens or MAX_DRAFT_TOKENS)


def _obstacle_in(request: GenerateRequest) -> str | None:
    if request.response_format is not None:
        return "response_format: what may come next is found out token by token"
    if request.has_to_call:
        return "a tool_choice of required or a name: what may come next is found out token by token"
    if request.holds_calls:
        return "strict tools: what may come next in a call is found out token by token"
    if request.max_reasoning_tokens is not None:
        return "max_reasoning_tokens: when reasoning is closed is decided token by token"
    return None


def _obstacle(plan: CachePlan, vocabulary_size: int, *, is_batched: bool) -> str | None:
    if not can_be_padded(plan.make()):
        return "its sliding windows or recurrent states cannot take back tokens that were drafted wrong"
    if not is_exact_over_drafts(plan, vocabulary_size, is_batched=is_batched):
        return "its logits are not the same for several tokens at once as one by one"
    return None
