"""The worker process: one model, one loop, no asyncio; threads only for files of cached prefixes and for grammars."""
