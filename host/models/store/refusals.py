"""What the Hugging Face hub says when it gives no model, in words that tell what to do."""

from __future__ import annotations

import os

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelNotFound


def explain(hub_id: str, exc: Exception) -> BridgeError:
    """The error for what huggingface_hub has raised; ``details["hub_id"]`` is of a model that the hub could not be asked for."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if isinstance(exc, GatedRepoError):
        return ModelLoadFailed(
            f"{hub_id} is gated: accept its terms at https://huggingface.co/{hub_id} "
            "and set HF_TOKEN on the host"
        )
    if isinstance(exc, HFValidationError):
        return ModelNotFound(f"{hub_id!r} is not a Hugging Face id: {exc}")
    if isinstance(exc, RepositoryNotFoundError):
        return ModelNotFound(
            f"Hugging Face has no model {hub_id} (if it is private, set HF_TOKEN on the host)"
        )
    if is_unreachable(exc):
        cause = f" ({exc.__cause__})" if exc.__cause__ else ""
        why = "HF_HUB_OFFLINE is set" if _is_set_offline() else f"Hugging Face cannot be reached{cause}"
        return ModelLoadFailed(
            f"{hub_id} is not in this machine's cache and {why}: go online once, "
            "or copy the model here and give its folder",
            details={"hub_id": hub_id},
        )
    return ModelLoadFailed(
        f"downloading {hub_id} failed: {type(exc).__name__}: {exc}. Try again: it goes on where it stopped."
    )


def is_unreachable(exc: Exception) -> bool:
    """Whether the hub did not answer, or was not to be asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(exc, LocalEntryNotFoundError | ConnectionError)


def _is_set_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
