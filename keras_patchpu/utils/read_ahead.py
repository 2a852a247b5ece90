"""Results computed in threads ahead of who wants them."""

import collections
import os
from concurrent.futures import ThreadPoolExecutor

_MOST_WORKERS = 8  # each may hold a large image


def read_ahead(function, items, ahead, workers=None):
    """The results of a function, in the order of its arguments, computed in threads.

    Items are taken when the first result is asked for and while results are; what has not begun
    when nobody asks any longer is not computed.

    Args:
        function: Function of one item.
        items: Iterable.
        ahead: Results that are computed, or wait, beyond the one asked for, at most.
        workers: Threads. Defaults to `None`: as many as processors, 8 at most.

    Returns:
        Generator of the results. An exception of the function is raised in the place of its
        result, and ends the generator.
    """
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read_ahead")
    results = collections.deque()
    try:
        for item in items:
            results.append(pool.submit(function, item))
            if len(results) > ahead:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
