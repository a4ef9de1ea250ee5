"""The engine alone, beside mlx_lm in the same process."""
