"""``load``: which of the host's models is meant, and that it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge import Client
from mlxbridge.compat.mlx_lm.tokenizer import Tokenizer
from mlxbridge.compat.refusal import MissingAttribute, refuse_all, refused
from mlxbridge.errors import ModelNotFound, PermissionDenied
from mlxbridge.guest.default import default_client

_AT_THE_HOST = "the host has the model's files, and its configuration says how they are loaded"
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "tokenizer_config": ({}, _AT_THE_HOST),
    "model_config": ({}, _AT_THE_HOST),
    "return_config": (False, "the host does not hand out config.json; Client.show_model tells what it says"),
    "revision": (None, "the host has one version of a model, the newest when it was downloaded"),
    "trust_remote_code": (False, "the host never runs code that comes with a model"),
}


class Model:
    """One of the host's models: a name and the way to it. It has no weights here.

    Attributes:
        name: at the host; ``"NAME+ADAPTER"`` with an adapter.
        client: that asks it.
    """

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self._details: Mapping[str, Any] | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """``ModelInfo.details`` of the model once it is loaded, which this waits for."""
        if self._details is None:
            self._details = self.load()
        return self._details

    def load(self) -> Mapping[str, Any]:
        """Have the host load it, or wait until it has; on a terminal a line tells how far a download is.

        Raises:
            ModelNotFound, ModelLoadFailed, TransportError
        """
        base = self.name.partition("+")[0]
        self._details = self.client.load_model(base, progress=True).details
        return self._details

    def __getattr__(self, name: str) -> Any:
        raise MissingAttribute(
            f"the model is at the host: it has no {name!r} here; there is name, client, details and load()"
        )

    def __repr__(self) -> str:
        return f"Model({self.name!r})"


def load(
    path_or_hf_repo: str,
    tokenizer_config: Mapping[str, Any] | None = None,
    model_config: Mapping[str, Any] | None = None,
    adapter_path: str | None = None,
    lazy: bool = False,
    return_config: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
    *,
    client: Client | None = None,
) -> tuple[Model, Tokenizer]:
    """A model of the host, and its tokenizer.

    Args:
        path_or_hf_repo: the model's name at the host. A Hugging Face id that the host does not have is downloaded there, if
            its guests may.
        tokenizer_config: refused, as are ``model_config``, ``return_config``, ``revision`` and ``trust_remote_code``.
        model_config: see there.
        adapter_path: the name of one of the model's LoRA adapters at the host.
        lazy: do not load it yet; its first call does.
        return_config: see ``tokenizer_config``.
        revision: see there.
        trust_remote_code: see there.
        client: that is used for all calls; the one of ``mlxbridge.generate`` if left out.

    Returns:
        A handle and the tokenizer, for ``generate`` and its kin.

    Raises:
        UsageError: an argument is refused; ``details["field"]`` names it.
        ModelNotFound, ModelLoadFailed, ModelTooLarge, TransportError
    """
    given = {
        "tokenizer_config": tokenizer_config,
        "model_config": model_config,
        "return_config": return_config,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    refuse_all(given, _REFUSED, "load")
    if not isinstance(path_or_hf_repo, str):
        raise refused("path_or_hf_repo", f"must be a model's name at the host, not {path_or_hf_repo!r}")
    client = client or default_client()
    model = Model(path_or_hf_repo, client)
    if not lazy:
        try:
            model.load()
        except ModelNotFound as missing:
            _pull(client, path_or_hf_repo, missing)
            model.load()
    if adapter_path is not None:
        known = model.details.get("adapters") or ()
        if adapter_path not in known:
            raise refused(
                "adapter_path",
                f"names an adapter that the host has for {model.name}: {', '.join(known) or 'there is none'}",
            )
        model.name = f"{model.name}+{adapter_path}"
    return model, Tokenizer(model)


def load_tokenizer(
    model_path: str, tokenizer_config_extra: Mapping[str, Any] | None = None, eos_token_ids: None = None
) -> Tokenizer:
    """The tokenizer alone, of a model by its name at the host; arguments and errors as of ``load``, and ``eos_token_ids`` is refused."""
    if eos_token_ids is not None:
        raise refused("eos_token_ids", _AT_THE_HOST)
    return load(str(model_path), tokenizer_config_extra)[1]


def _pull(client: Client, name: str, missing: ModelNotFound) -> None:
    """Download a model that the host has not, as mlx_lm does.

    Raises:
        ModelNotFound: the first error, if that cannot be.
    """
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise missing
    try:
        client.pull_model(name, progress=True)
    except PermissionDenied:
        raise missing from None
