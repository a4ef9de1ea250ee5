"""A host on vsock port 2048 that tells each guest who it is, in one line, and then echoes."""

import asyncio
import contextlib

import uvloop

from mlxbridge.addresses import parse_listen
from mlxbridge.transport.listen import listener
from mlxbridge.transport.peers import peer_of

LISTEN = parse_listen("vsock:2048")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = peer_of(writer.get_extra_info("socket"), LISTEN)
    print("accepted", peer, flush=True)
    writer.write(f"{peer}\n".encode())
    with contextlib.suppress(OSError):  # a guest that hangs up in the middle
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main() -> None:
    with listener(LISTEN) as sock:
        server = await asyncio.start_server(serve, sock=sock)
        await server.serve_forever()


uvloop.run(main())
