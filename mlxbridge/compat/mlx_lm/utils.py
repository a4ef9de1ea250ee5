"""``from mlx_lm.utils import load`` has its like here."""

from mlxbridge.compat.mlx_lm.model import load

__all__ = ["load"]
