"""A TCP proxy that delivers everything later: `python delay.py PORT HOST:PORT SECONDS`, each way.

It marks its own connections with 1, so that a firewall rule which sends others here lets them pass.
"""

from __future__ import annotations

import asyncio
import socket
import sys

SO_MARK = 36
WINDOW = 1024
"""Chunks on their way at most, each way: a long line holds much, but not everything."""


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Copy one direction; each chunk arrives `delay_s` after it was read."""
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW)

    async def deliver() -> None:
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(65536):
            await line.put((loop.time() + delay_s, data))
    except ConnectionError:
        pass
    await line.put((loop.time() + delay_s, b""))
    await asyncio.gather(delivery, return_exceptions=True)


async def serve(port: int, host: str, there: int, delay_s: float) -> None:
    """Take connections until killed."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = socket.socket()
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, SO_MARK, 1)
        try:
            await asyncio.get_running_loop().sock_connect(link, (host, there))
            far_reader, far_writer = await asyncio.open_connection(sock=link)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer, delay_s), carry(far_reader, writer, delay_s))

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    target, _, number = sys.argv[2].partition(":")
    asyncio.run(serve(int(sys.argv[1]), target, int(number), float(sys.argv[3])))
