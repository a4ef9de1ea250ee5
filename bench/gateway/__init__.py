"""``python -m bench gateway``: answers over HTTP, beside other servers; and what HTTP itself costs."""
