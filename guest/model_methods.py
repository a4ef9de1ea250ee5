"""The methods of a blocking client that list, load and fetch models."""

from __future__ import annotations

from mlxbridge.guest.caller import Caller
from mlxbridge.guest.requests import load_params, read_freed, read_model, read_models
from mlxbridge.progress import showing
from mlxbridge.types import KeepAlive, ModelInfo, Progress


class ModelMethods:
    """``Client``'s methods that list, load and fetch models."""

    _caller: Caller

    def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models this host serves, loaded or not.

        Example:
            >>> [model.name for model in client.list_models()]
            ['demo', 'caller', 'all-MiniLM-L6-v2', 'ms-marco-MiniLM-L6-v2']
        """
        return read_models(self._caller.ask("models", {}, timeout))

    def load_model(
        self,
        model: str,
        *,
        progress: Progress | bool | None = None,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> ModelInfo:
        """Load a model, or wait until it is loaded.

        Args:
            progress: is told what is done meanwhile, such as ``{"stage": "waiting"}`` while others have the memory; True shows
                that on the terminal, if stderr is one.
            keep_alive: how long it stays loaded after its last call; see ``Options``.

        Raises:
            ModelNotFound, ModelLoadFailed, ModelTooLarge

        Example:
            >>> client.load_model("demo", keep_alive="30m").state
            'ready'
        """
        with showing(progress, model) as tell:
            return read_model(self._caller.ask("load", load_params(model, keep_alive), timeout, tell))

    def unload_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """Give a model's memory back, which ends its calls; it is loaded again when it is next asked for.

        Raises:
            PermissionDenied: the host's configuration keeps it.
            ModelNotFound

        Example:
            >>> client.unload_model("caller").state
            'unloaded'
        """
        return read_model(self._caller.ask("unload", {"model": model}, timeout))

    def show_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """What a model's files say, though it is not loaded.

        ``details`` then has ``architecture``, ``parameters``, ``quantization``, ``context_length``, ``disk_bytes``,
        ``capabilities``, ``licence`` and more; ``disk_bytes`` 0 and nothing else if the files are not on the host.

        Example:
            >>> client.show_model("demo").details["capabilities"]
            ['generate', 'chat']
        """
        return read_model(self._caller.ask("show", {"model": model}, timeout))

    def pull_model(
        self, model: str, *, progress: Progress | bool | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """Have the host download the newest version of a model; it can be used from then on.

        Args:
            model: a Hugging Face id such as ``mlx-community/Qwen3-4B-4bit``.
            progress: is told ``bytes_done`` and ``bytes_total`` meanwhile; True shows a bar on the terminal, if stderr is one.

        Raises:
            PermissionDenied: guests may not do that on this host.
            ModelNotFound, ModelLoadFailed: it cannot be had, or is no model.

        Example:
            >>> client.pull_model("org/demo").state
            'unloaded'
        """
        with showing(progress, model) as tell:
            return read_model(self._caller.ask("pull", {"model": model}, timeout, tell))

    def delete_model(self, model: str, *, force: bool = False, timeout: float | None = None) -> int:
        """Delete the files of a model that was pulled; the bytes that are free then.

        Args:
            force: though it is loaded.

        Raises:
            PermissionDenied: the host's configuration has it, or guests may not do that.
            InvalidArgument: it is loaded.

        Example:
            >>> client.pull_model("org/demo").name
            'org/demo'
            >>> client.delete_model("org/demo") > 1_000_000
            True
        """
        return read_freed(self._caller.ask("delete", {"model": model, "force": force}, timeout))
