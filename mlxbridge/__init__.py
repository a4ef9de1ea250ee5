"""mlxbridge: the GPU of a Mac (or any host) for Linux containers and VMs, over one socket."""

__version__ = "0.1.0"
