"""What most tests do: carry a database while others write, and compare."""
from .writers import Writers


def carry(carried, tables=(), seed=1, rate=300, before=50, after=200, during=None):
    """Load, run, ready, `during` (a callable), more load, arrival, full comparison."""
    if not tables:
        carried.run_until_ready()
        if during:
            during()
        return carried.finish_load_and_compare()
    with Writers(carried.source_server.dsn(carried.name), list(tables), seed=seed,
                 rate=rate) as writers:
        writers.wait_for_transactions(before)
        carried.run_until_ready()
        if during:
            during()
        writers.wait_for_transactions(after)
        return carried.finish_load_and_compare(writers)


def refusal(carried, code=1):
    """What `plan` says when it refuses: its findings, by code."""
    import json
    done = carried.portage.command("--json", "plan", check=False)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    plan = json.loads(done.stdout)
    return {finding["code"]: finding for finding in plan["findings"]
            if finding["severity"] == "refuse"}


def failure(carried, timeout=60):
    """`run` ends by itself; gives its exit code and log."""
    carried.portage.start()
    code = carried.portage.wait(timeout)
    return code, carried.portage.logs()
