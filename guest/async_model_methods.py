"""As ``model_methods``, on an event loop."""

from __future__ import annotations

from mlxbridge.guest.async_caller import AsyncCaller
from mlxbridge.guest.requests import load_params, read_freed, read_model, read_models
from mlxbridge.progress import showing
from mlxbridge.types import KeepAlive, ModelInfo, Progress


class AsyncModelMethods:
    """As ``ModelMethods``."""

    _caller: AsyncCaller

    async def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models this host serves."""
        return read_models(await self._caller.ask("models", {}, timeout))

    async def load_model(
        self,
        model: str,
        *,
        progress: Progress | bool | None = None,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> ModelInfo:
        """Load a model, or wait until it is loaded."""
        with showing(progress, model) as tell:
            return read_model(await self._caller.ask("load", load_params(model, keep_alive), timeout, tell))

    async def unload_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """Give a model's memory back; it is loaded again when it is next asked for."""
        return read_model(await self._caller.ask("unload", {"model": model}, timeout))

    async def show_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """What a model's files say; see ``Client.show_model``."""
        return read_model(await self._caller.ask("show", {"model": model}, timeout))

    async def pull_model(
        self, model: str, *, progress: Progress | bool | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """Have the host download a model; arguments and errors as for ``Client.pull_model``. Cancelling ends the download."""
        with showing(progress, model) as tell:
            return read_model(await self._caller.ask("pull", {"model": model}, timeout, tell))

    async def delete_model(self, model: str, *, force: bool = False, timeout: float | None = None) -> int:
        """Delete a model that was pulled; arguments and errors as for ``Client.delete_model``."""
        return read_freed(await self._caller.ask("delete", {"model": model, "force": force}, timeout))
