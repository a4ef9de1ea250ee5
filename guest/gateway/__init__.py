"""The HTTP gateway: OpenAI's, Anthropic's and Ollama's APIs in front of a host, for everything that speaks HTTP.

It is one more guest: it knows hosts through ``mlxbridge.AsyncClient`` alone. Needs the ``gateway`` extra.
"""
