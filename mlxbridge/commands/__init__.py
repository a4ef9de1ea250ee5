"""The commands of ``mlxbridge``, a module for each or for each group of them; each adds itself to the parser."""
