"""A program in a terminal of its own, and what a person would see on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

import pyte

import rig


class Terminal:
    """A pseudo-terminal whose other side is drawn by a terminal emulator."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int = 100, rows: int = 34
    ) -> None:
        self.near, self.far = pty.openpty()
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.far)
        self.process = subprocess.Popen(
            command, stdin=self.far, stdout=self.far, stderr=self.far, cwd=rig.ROOT,
            env={**environment, "TERM": "xterm-256color"}, start_new_session=True,
        )

    def size(self, columns: int, rows: int) -> None:
        """Resizes the window, and tells the program as a terminal does."""
        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        process = getattr(self, "process", None)
        if process is not None:
            os.kill(process.pid, 28)  # SIGWINCH goes to the foreground group, and there is none

    def type(self, keys: str) -> None:
        os.write(self.near, keys.encode())

    def look(self) -> str:
        """The screen as it is now."""
        while select.select([self.near], [], [], 0.02)[0]:
            try:
                some = os.read(self.near, 65536)
            except OSError:  # Linux's way to say that the program has ended
                break
            self.written += some
            self.stream.feed(some)
        return "\n".join(self.screen.display)

    def shows(self, *texts: str, within: float = 20) -> str:
        """Waits until all of them are on the screen."""
        def seen() -> str:
            screen = self.look()
            return screen if all(text in screen for text in texts) else ""

        try:
            return rig.eventually(seen, within=within, what=f"showing {texts}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.look()}") from None

    def ended(self) -> int:
        """Waits for the end of the program; reads on meanwhile, or it could not end."""
        rig.eventually(lambda: (self.look(), self.process.poll() is not None)[1], what="ending")
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Does the terminal echo and edit lines again?"""
        return termios.tcgetattr(self.far)[:4] == self.before[:4]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.near)
        os.close(self.far)
