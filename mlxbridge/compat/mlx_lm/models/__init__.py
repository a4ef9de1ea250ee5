"""Where mlx_lm has its models; the host has them here. ``cache`` says what there is in place of prompt caches."""
