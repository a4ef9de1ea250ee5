"""The models a host serves: where they come from, and the worker processes that run them."""
