"""How much the wire costs: mlxbridge beside JSON over gRPC, SSE over HTTP, and bare blocking sockets."""
