"""What a process that works for another does first: takes one thread, and ends with the one that started it.

A process that is killed cannot stop its workers, and joblib's would wait for five minutes for tasks that nobody sends.
A thread of the caller has no parent process in Python's sense and is left alone; so is what others than
``multiprocessing`` start.
"""

import functools
import multiprocessing
import os
import threading
import time

POLL_SECONDS = 1.0


@functools.cache
def work_for_parent() -> None:
    """Make this process a good worker, once; nothing happens in a process that multiprocessing did not start."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    import torch

    torch.set_num_threads(1)  # as many workers run as there are cores
    threading.Thread(target=_end_with, args=(parent.pid, os.getppid()), daemon=True).start()


def _end_with(starter: int, parent: int) -> None:
    """End this process with either: the one that asked for it, or its parent, a server of forks perhaps."""
    while _runs(starter) and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
