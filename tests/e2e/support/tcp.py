"""A TCP relay that misbehaves on demand, to stand between the proxy and one of its peers.

It knows nothing of what it carries. Modes:

- `forward`: relays both ways.
- `refuse`: nothing listens; connecting is refused, open connections are reset.
- `hang`: accepts, and passes nothing in either direction until the mode changes.
- `slow`: relays, each piece delayed by `delay_seconds`.
- `cut`: (an action) resets what is open now and goes on relaying new connections.
"""

import asyncio
import socket
import struct
import threading

from .process import free_port

PIECE_BYTES = 64 * 1024


class FaultProxy:
    """Listens on `address` for as long as it lives; runs on a thread of its own."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.host = "127.0.0.1"
        self.port = free_port()
        self.accepted = 0
        self._mode = "forward"
        self._delay_seconds = 0.0
        self._writers = set()
        self._tasks = set()
        self._server = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._prepare())

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def endpoint(self):
        return f"http://{self.host}:{self.port}"

    def forward(self):
        self._call(self._switch("forward"))

    def refuse(self):
        self._call(self._switch("refuse"))

    def hang(self):
        self._call(self._switch("hang"))

    def slow(self, delay_seconds):
        self._call(self._switch("slow", delay_seconds))

    def cut(self):
        """Resets every open connection; the mode stays."""
        self._call(self._reset_all())

    def close(self):
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _prepare(self):
        self._changed = asyncio.Condition()
        await self._listen()

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, self.host, self.port, reuse_address=True
            )

    async def _switch(self, mode, delay_seconds=0.0):
        self._mode, self._delay_seconds = mode, delay_seconds
        if mode == "refuse":
            self._server.close()
            self._server = None
            await self._reset_all()
        else:
            await self._listen()
        async with self._changed:
            self._changed.notify_all()

    async def _reset_all(self):
        for writer in list(self._writers):
            abort(writer)

    async def _finish(self):
        if self._server is not None:
            self._server.close()
        await self._reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        far_writer = None
        try:
            await self._until_flowing()
            far_reader, far_writer = await asyncio.open_connection(*self.upstream)
            self._writers.add(far_writer)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            abort(writer)
            if far_writer is not None:
                abort(far_writer)
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    self._writers.discard(each)
                    each.close()
            self._tasks.discard(task)

    async def _pump(self, reader, writer):
        while True:
            piece = await reader.read(PIECE_BYTES)
            await self._until_flowing()
            if not piece:
                if writer.can_write_eof() and not writer.is_closing():
                    writer.write_eof()
                return
            if self._mode == "slow":
                await asyncio.sleep(self._delay_seconds)
            writer.write(piece)
            await writer.drain()

    async def _until_flowing(self):
        async with self._changed:
            await self._changed.wait_for(lambda: self._mode in ("forward", "slow", "refuse"))


def abort(writer):
    """Closes with a reset, as a machine that has gone away would be felt."""
    try:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    except OSError:
        pass
