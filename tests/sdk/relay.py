"""A TCP relay that delays what passes, or ends connections in the middle."""

import queue
import random
import socket
import threading
import time


class Relay:
    """In front of `host:port`. `delay` (seconds each way) and `cuts` (the share of pieces that end
    their connection) may be changed at any time, and count for connections that are open."""

    def __init__(self, host: str, port: int) -> None:
        self.behind = host, port
        self.delay = 0.0
        self.cuts = 0.0
        #: Pieces that were late, and connections that were ended.
        self.delayed = self.cut = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        self.run(self.accept)

    def run(self, work, *arguments) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.behind)
            except OSError:
                client.close()
                continue
            self.open += client, server
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pieces: queue.Queue[tuple[float, bytes]] = queue.Queue()
                self.run(self.read, one, pieces)
                self.run(self.write, other, pieces)

    def read(self, sender: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        """Each piece is late by the delay of the moment when it came; none waits for another."""
        piece = b"some"
        while piece:
            try:
                piece = sender.recv(65536)
            except OSError:
                piece = b""
            self.delayed += self.delay > 0
            pieces.put((time.monotonic() + self.delay, piece))

    def write(self, receiver: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, piece = pieces.get()
            time.sleep(max(0, due - time.monotonic()))
            if not piece:
                break
            if random.random() < self.cuts:
                self.cut += 1
                break
            try:
                receiver.sendall(piece)
            except OSError:
                break
        try:
            receiver.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was first

    def stop(self) -> None:
        # Closing alone does not wake who waits for the next connection.
        self.listener.shutdown(socket.SHUT_RDWR)
        for one in (self.listener, *self.open):
            one.close()
