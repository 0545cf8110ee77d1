"""More processes for token counting: a bounded queue of texts going out, one set of counts coming back from each."""

import multiprocessing
import queue
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Protocol

import numpy as np

from drafters.vocab.counting.pretokens import EncodingPlan
from drafters.vocab.counting.tally import Tally, private_copy

WAITING = 2  # batches in the queue per process: enough to keep it busy, little enough to bound memory


class Others(Protocol):
    """Processes that count batches of texts for this one."""

    def offer(self, batch: list[tuple[str, str]]) -> bool:
        """Hand over a batch of (domain, text); False where none of them has room for it."""
        ...

    def close(self) -> None:
        """Say that there is no more text."""
        ...

    def results(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Counts per domain and the number of plainly encoded texts, part by part."""
        ...


class Fanout:
    """Worker processes that count batches of texts. Use as a context manager: leaving it ends the processes."""

    def __init__(self, workers: int, tokenizer_json: str, plan: EncodingPlan, size: int):
        # spawn: the caller may have threads (torch, tokenizers), which a forked child would inherit half-alive
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(maxsize=WAITING * workers)
        self._results: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(self._queue, sender, tokenizer_json, plan, size), daemon=True)
            process.start()
            sender.close()
            self._results.append(receiver)
            self._processes.append(process)

    def __enter__(self) -> "Fanout":
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.cancel_join_thread()
        for process in self._processes:
            process.terminate()
            process.join()

    def offer(self, batch: list[tuple[str, str]]) -> bool:
        """Hand a batch of (domain, text) to whoever is free; False if the queue is full."""
        try:
            self._queue.put_nowait(batch)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Say that there is no more text. Follow with :meth:`results`."""
        for _ in self._processes:
            while True:
                self._require_alive()
                try:
                    self._queue.put(None, timeout=1.0)
                    break
                except queue.Full:
                    continue

    def results(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Counts per domain and the number of plainly encoded texts, from each process as it finishes.

        Raises:
            RuntimeError: a process ended without a result; its counts are lost, so the whole count is.
        """
        pending = dict(enumerate(self._results))
        while pending:
            ready = wait(pending.values())
            for index, connection in list(pending.items()):
                if connection not in ready:
                    continue
                del pending[index]
                try:
                    yield connection.recv()
                except EOFError:
                    raise RuntimeError(self._death(index)) from None

    def _require_alive(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exitcode not in (None, 0):
                raise RuntimeError(self._death(index))

    def _death(self, index: int) -> str:
        process = self._processes[index]
        process.join(timeout=5.0)
        return f"a counting process ended with exit code {process.exitcode} (-9: out of memory?); try count.workers=1"


def _work(inbox: multiprocessing.Queue, outbox: Connection, tokenizer_json: str, plan: EncodingPlan, size: int) -> None:
    tally = Tally(private_copy(tokenizer_json), plan, size)
    while (batch := inbox.get()) is not None:
        tally.extend(batch)
    outbox.send((tally.finish(), tally.plain_texts))
    outbox.close()
