"""The guest side: clients of a host. ``import mlxbridge`` gives the names that users need."""
