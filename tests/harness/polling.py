"""Waiting for a condition, with a text that says what was waited for when it did not come."""
import time


class WaitTimeout(AssertionError):
    pass


def wait_until(predicate, timeout, what, interval=0.05, explain=None):
    """Calls predicate until it gives something true, and returns that. `what` ends the sentence
    "waited 30 s for …"; explain() adds what is known about the reason."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            break
        time.sleep(interval)
    text = f"waited {timeout:g} s for {what}; the last answer was {value!r}"
    if explain is not None:
        text += f"\n{explain()}"
    raise WaitTimeout(text)
