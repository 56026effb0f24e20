"""Work spread over processes: a bounded number of tasks in flight, no hang, no orphan.

`ProcessPoolExecutor` reports a killed worker, which `multiprocessing.Pool` waits for for ever. Its
workers outlive a killed parent, though, since each holds both ends of the queue they wait on; so
every worker watches a pipe whose other end only the parent has.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from xlm_lightning.atomic import end_process
from xlm_lightning.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerKilledError(UserError):
    """A worker process ended by itself: nothing is wrong with the data."""


class Workers:
    """Runs a function over tasks; `executor` is None when all happens in this process."""

    def __init__(self, executor: ProcessPoolExecutor | None, in_flight: int) -> None:
        self._executor = executor
        self._in_flight = in_flight

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the results in the order of the tasks, which are read only as they are needed."""
        if self._executor is None:
            yield from map(function, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        with _naming_a_killed_worker():
            for task in tasks:
                waiting.append(self._executor.submit(function, task))
                del task  # it may be large, and this frame lives on while the result is awaited
                if len(waiting) >= self._in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def as_completed(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """Yield each result when it is there: a long task does not hold up those after it."""
        if self._executor is None:
            yield from map(function, tasks)
            return
        running: set[Future[Result]] = set()
        with _naming_a_killed_worker():
            for task in tasks:
                running.add(self._executor.submit(function, task))
                del task
                if len(running) >= self._in_flight:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)


@contextmanager
def _naming_a_killed_worker() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerKilledError(
            "a worker process was killed (out of memory?); run the same command again, with "
            "fewer workers if it recurs: finished shards are kept"
        ) from error


@contextmanager
def start_workers(workers: int) -> Iterator[Workers]:
    """Processes that end with this block, at once when it ends by an exception.

    Spawned, not forked: the parent may have threads (torch, tqdm), and a forked worker would
    inherit the parent's end of the pipe. `workers` of 0 or 1 means no other process.
    """
    if workers <= 1:
        yield Workers(None, 1)
        return
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, context, _start_worker, (watched,))
    try:
        yield Workers(executor, workers + 1)
    except BaseException:
        held.close()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        held.close()
        watched.close()


def _start_worker(watched: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_leave_with_parent, args=(watched,), daemon=True).start()


def _leave_with_parent(watched: Connection) -> None:
    watched.poll(None)  # readable only when the parent's end is closed: nothing is ever sent
    end_process(1)
