"""``/v1/responses``: items in, items out, whole or as events. Nothing is kept between requests."""
