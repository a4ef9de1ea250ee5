"""``python -m bench embed``: vectors through the bridge, beside the same model in-process, and the way alone."""
