"""Progress bars of libraries, in processes that an export ends."""

import threading

from tqdm import tqdm


def lock_bars_by_threads() -> None:
    """Hidden bars of libraries make a lock for several processes, of which Python complains when this one is ended."""
    tqdm.set_lock(threading.RLock())
