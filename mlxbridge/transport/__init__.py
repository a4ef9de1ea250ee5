"""Sockets to and from the host: unix, AF_VSOCK and TCP, blocking or for an event loop."""
