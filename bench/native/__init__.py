"""What the bridge takes from a model's speed: the same prompts through a host, and through mlx_lm in one process."""
