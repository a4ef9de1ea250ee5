"""Drop-ins: ``mlxbridge.compat.mlx_lm`` and ``mlxbridge.compat.openai`` have the names of the originals, and the host answers."""
