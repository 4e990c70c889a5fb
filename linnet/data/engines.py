"""What has the parts of a preparation done: processes of this machine, or the tasks of a Ray cluster."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from linnet.data.extras import library
from linnet.data.parts import Advance, Job, Task
from linnet.errors import UserError

_LOOK_S = 0.2
"""between two looks at how far the parts are"""

RETRIES = 3
"""times that a Ray task is begun again after its process or its machine was lost"""


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """As many processes as processors, where the program is Linnet's own; one in a script, which might not bear to be
    begun anew by each process."""
    program = sys.modules.get("__main__")
    own = getattr(getattr(program, "__spec__", None), "name", None) == "linnet.__main__"
    installed = Path(getattr(program, "__file__", None) or "").name in ("linnet", "linnet.exe")
    return processors() if own or installed else 1


class Processes:
    """One process on this machine for each part. They end with the process that began them, however that ends."""

    def run(self, task: Task, job: Job, advance: Advance) -> None:
        """Returns when `task` has been done for each part of `job`.

        Raises:
            UserError: as the task raises it, or because a process was stopped from outside.
        """
        context = multiprocessing.get_context("spawn")  # a fork would take over locks that other threads hold
        done, seen = context.Value("q", 0), 0
        processes, answers = [], {}
        try:
            with _interruption_waits():
                for part in range(1, job.count + 1):
                    receiving, sending = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(task, job, part, done, sending), daemon=True)
                    process.start()
                    sending.close()
                    processes.append(process)
                    answers[receiving] = process
            while answers:
                for answer in wait(list(answers), _LOOK_S):
                    assert isinstance(answer, Connection)
                    _take(answer, answers.pop(answer))
                advance(done.value - seen)
                seen = done.value
        finally:
            for process in processes:
                process.kill()
                process.join()


def _take(answer: Connection, process: Any) -> None:
    """Raises what a process failed with, if it did."""
    try:
        found = answer.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"a worker process was stopped (exit code {process.exitcode}), perhaps for want of memory; fewer "
            "`--workers` need less"
        ) from None
    if found is None:
        return
    kind, text = found
    raise UserError(text) if kind is UserError else RuntimeError(f"in a worker process:\n{text}")


def _work(task: Task, job: Job, part: int, done: Any, answer: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears of it, and stops this one
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def advance(amount: int) -> None:
        with done.get_lock():
            done.value += amount

    try:
        task(job, part, advance)
        answer.send(None)
    except UserError as error:
        answer.send((UserError, str(error)))
    except BaseException:
        answer.send((None, traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _interruption_waits() -> Iterator[None]:
    """Ctrl-C is felt only after the block, and never by processes that begin in it: they would say so."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Ray:
    """One task of a Ray cluster for each part; Ray chooses the machine, and begins again what was lost.

    The cluster is the one that `RAY_ADDRESS` names or this machine belongs to, else one on this machine alone. Its
    machines have to see the sources and the target under the same paths.

    Args:
        workers: processes of a cluster that has to be begun.
    Raises:
        UserError: Ray is not installed, or the cluster is not there.
    """

    def __init__(self, workers: int) -> None:
        self.ray = library("ray", "cluster", "--engine ray")
        if not self.ray.is_initialized():
            try:
                self._begin(workers)
            except (ConnectionError, RuntimeError) as error:
                raise UserError(f"the Ray cluster cannot be reached: {error}") from error

    def _begin(self, workers: int) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        try:
            self.ray.init(address="auto", log_to_driver=False, logging_level="error")
        except ConnectionError:  # no cluster: one of this machine
            self.ray.init(num_cpus=workers, **options)

    @property
    def processors(self) -> int:
        """How many the cluster has."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def run(self, task: Task, job: Job, advance: Advance) -> None:
        """Returns when `task` has been done for each part of `job`.

        Raises:
            UserError: as the task raises it, or because a machine was lost too often.
        """
        remote = self.ray.remote(_ray_work).options(max_retries=RETRIES, num_cpus=1)
        waiting = [remote.remote(task, job, part) for part in range(1, job.count + 1)]
        while waiting:
            done, waiting = self.ray.wait(waiting, timeout=_LOOK_S)
            for answer in done:
                try:
                    advance(self.ray.get(answer))
                except self.ray.exceptions.RayTaskError as error:
                    for other in waiting:
                        self.ray.cancel(other, force=True)
                    if isinstance(error.cause, UserError):
                        raise error.cause from None
                    raise
                except self.ray.exceptions.RayError as error:
                    raise UserError(
                        f"Ray lost a part more than {RETRIES} times ({type(error).__name__}); the same command goes on "
                        "with the parts that are missing"
                    ) from error


def _ray_work(task: Task, job: Job, part: int) -> int:
    """What a Ray task does; how much of the progress it was."""
    total = 0

    def advance(amount: int) -> None:
        nonlocal total
        total += amount

    task(job, part, advance)
    return total
