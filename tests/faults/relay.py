"""An HTTP relay in front of a store that fails as a Plan says.

It reads whole requests and passes them byte for byte, each on a connection of its own to the
store, so that it can lose an answer after the effect, or let the effect come later than the
failure. Late effects are delivered whatever becomes of the client, as a real network would.
"""

import asyncio
import socket
import threading

from support.process import free_port
from support.tcp import abort

from http1 import (
    HEAD_BYTES_MAX,
    Ended,
    exchange,
    read_body,
    read_exactly,
    read_request_head,
    s3_error,
)
from plan import WITHOUT_REQUEST

DRIP_PIECES = 8


class Relay:
    """Listens on `endpoint` until it is closed; runs on a thread of its own."""

    def __init__(self, upstream, plan):
        self.upstream = upstream
        self.plan = plan
        self.requests = []
        self.bytes_to_store = self.bytes_from_store = 0
        self.host, self.port = "127.0.0.1", free_port()
        self.late_failures = []
        self._busy = 0
        self._tasks = set()
        self._writers = set()
        self._server = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def endpoint(self):
        return f"http://{self.host}:{self.port}"

    @property
    def idle(self):
        """No fault is in progress and no late effect is still to come."""
        return self._busy == 0

    def calm(self):
        self.plan.calm()

    def cut(self):
        """Resets every open connection."""
        self._call(self._reset_all())

    def close(self):
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _listen(self):
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, limit=HEAD_BYTES_MAX, reuse_address=True
        )

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

    def _spawn(self, coroutine):
        """A task that keeps the relay from being idle."""
        self._busy += 1
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)

        def ended(task):
            self._busy -= 1
            self._tasks.discard(task)

        task.add_done_callback(ended)

    async def _refuse(self, seconds):
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await self._reset_all()
        await asyncio.sleep(seconds)
        while self._server is None:
            try:
                await self._listen()
            except OSError:
                # Somebody's outgoing connection may have been given this port meanwhile.
                await asyncio.sleep(0.1)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._one(reader, writer):
                pass
        except (Ended, OSError, asyncio.CancelledError):
            abort(writer)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader, writer):
        """Takes one request; false when the connection is over."""
        request = await read_request_head(reader)
        self.requests.append((request.method, request.target))
        choice = self.plan.choose(request)
        if choice is None:
            return await self._pass(request, reader, writer)
        if isinstance(choice, bytes):
            await self._body(request, reader, writer)
            return await self._send(writer, choice)
        self._busy += 1
        try:
            return await self._fail(choice, request, reader, writer)
        finally:
            self._busy -= 1

    async def _body(self, request, reader, writer):
        if request.expects_100:
            await self._send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
        return await read_body(reader, request.headers)

    async def _send(self, writer, data):
        writer.write(data)
        await writer.drain()
        return True

    async def _pass(self, request, reader, writer):
        body = await self._body(request, reader, writer)
        response = await exchange(self.upstream, request, body)
        self.bytes_to_store += len(body)
        self.bytes_from_store += len(response.body)
        return await self._send(writer, response.head + response.body)

    async def _deliver_late(self, seconds, request, body):
        await asyncio.sleep(seconds)
        try:
            await exchange(self.upstream, request, body)
        except (Ended, OSError) as error:
            self.late_failures.append(error)

    async def _fail(self, fault, request, reader, writer):
        kind = fault.kind
        if kind == WITHOUT_REQUEST:
            self._spawn(self._refuse(fault.seconds))
            return reset(writer)
        if kind == "reset before the request body":
            return reset(writer)
        if kind == "reset within the request body" and not request.expects_100:
            await read_exactly(reader, request.length // 2)
            return reset(writer)
        body = await self._body(request, reader, writer)
        method = request.method
        if kind in ("reset after the request body", "reset within the request body"):
            return reset(writer)
        if kind == "500 InternalError":
            return await self._send(writer, s3_error(500, "InternalError", method))
        if kind == "503 SlowDown":
            return await self._send(writer, s3_error(503, "SlowDown", method))
        if kind == "200 with an error, no effect":
            return await self._send(writer, s3_error(200, "InternalError", method))
        if kind == "hang, then reset":
            await asyncio.sleep(fault.seconds)
            return reset(writer)
        if kind == "hang, effect lands late":
            self._spawn(self._deliver_late(fault.seconds, request, body))
            await asyncio.sleep(fault.seconds)
            return reset(writer)
        if kind == "reset, effect lands late":
            self._spawn(self._deliver_late(fault.seconds, request, body))
            return reset(writer)
        if kind == "504, effect lands late":
            self._spawn(self._deliver_late(fault.seconds, request, body))
            return await self._send(writer, s3_error(504, "GatewayTimeout", method))
        if kind == "slow request":
            await asyncio.sleep(fault.seconds)
        response = await exchange(self.upstream, request, body)
        if kind == "slow request":
            return await self._send(writer, response.head + response.body)
        if kind == "response lost after the effect":
            return reset(writer)
        if kind == "500 after the effect":
            return await self._send(writer, s3_error(500, "InternalError", method))
        if kind == "200 with an error after the effect":
            return await self._send(writer, s3_error(200, "InternalError", method))
        if kind == "slow drip":
            return await self._drip(writer, response.head + response.body, fault.seconds)
        kept = len(response.body) // 2 if kind == "truncated response body" else 0
        await self._send(writer, response.head + response.body[:kept])
        # What was sent shall arrive before the reset.
        await asyncio.sleep(0.02)
        return reset(writer)

    async def _drip(self, writer, data, seconds):
        step = max(1, len(data) // DRIP_PIECES)
        for start in range(0, len(data), step):
            await self._send(writer, data[start : start + step])
            await asyncio.sleep(seconds / DRIP_PIECES)
        return True


def reset(writer):
    abort(writer)
    return False
