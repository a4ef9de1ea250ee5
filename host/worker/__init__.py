"""The worker process: one model, one loop, no threads and no asyncio."""
