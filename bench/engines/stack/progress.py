"""A bar on the terminal's last line; plain lines, few of them, where standard error is none."""
import sys
import threading
import time


class Progress:
    """`total` steps of `name`, of which any thread may say that one is done."""

    WIDTH = 30

    def __init__(self, name: str, total: int):
        self._name, self._total, self._done = name, max(1, total), 0
        self._lock = threading.Lock()
        self._started = self._shown = time.monotonic()
        self._show()

    def advance(self) -> None:
        with self._lock:
            self._done += 1
            if time.monotonic() - self._shown > 0.2 or self._done >= self._total:
                self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        over = self._done >= self._total
        if sys.stderr.isatty():
            filled = self.WIDTH * min(self._done, self._total) // self._total
            bar = "#" * filled + "." * (self.WIDTH - filled)
            print(f"\r{self._name:34} [{bar}] {self._shown - self._started:5.0f} s", end="\n" if over else "", file=sys.stderr, flush=True)
        elif over:
            print(f"{self._name}: {self._shown - self._started:.1f} s", file=sys.stderr, flush=True)
