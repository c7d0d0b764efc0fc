"""SIGKILL of a manager at random moments, every third time in the middle of restarts."""

import os
import random
import signal
import time

from .world import copies, end, faults, median, silent, wait_for

HEAD = ["manager", "kills", "processes not kept", "second copies", "lines lost", "doubled or cut", "silent at the end", "start to answer"]


def scenario(manager, kills, seed):
    """Starts the services, kills the manager so often, and counts what became of them."""
    names = list(manager.services)
    try:
        manager.start()
        wait_for("all services", lambda: len(copies(manager.marker)) == len(names))
        told = rounds(manager, kills, random.Random(seed))
        quiet = silent([manager.logs / f"{name}.log" for name in names])
    finally:  # services outlive their manager, and this script as well
        manager.end()
        for pid in (pid for pids in copies(manager.marker).values() for pid in pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    found = {name: faults(manager.logs / f"{name}.log") for name in names}
    return {
        "manager": manager.name,
        "kills": kills,
        "gone": told["gone"],
        "copies": told["copies"],
        "lost": sum(lost for lost, _ in found.values()),
        "wrong": sum(wrong for _, wrong in found.values()),
        "silent": len(quiet),
        "answer_ms": round(median(told["took"]) * 1000),
        "bad_logs": {name: f for name, f in found.items() if f != (0, 0)},
    }


def row(told):
    return [told[key] for key in ("manager", "kills", "gone", "copies", "lost", "wrong", "silent")] + [f"{told['answer_ms']} ms"]


def is_broken(told):
    return any(told[key] for key in ("gone", "copies", "lost", "wrong", "silent"))


def rounds(manager, kills, rng):
    names = list(manager.services)
    told = {"gone": 0, "copies": 0, "took": []}
    for number in range(kills):
        time.sleep(rng.random() * 0.5)
        before, busy, command = copies(manager.marker), set(), None
        if number % 3 == 2:
            busy = set(rng.sample(names, max(1, len(names) // 10)))
            command = manager.restart_some(sorted(busy))
            time.sleep(rng.random() * 0.3)
        end(manager.pid())
        if command:
            command.wait()
        began = time.monotonic()
        manager.again()
        told["took"].append(time.monotonic() - began)
        settled = lambda: (lambda now: len(now) == len(names) and all(now.values()) and now)(copies(manager.marker))
        try:
            after = wait_for("all services", settled)
        except TimeoutError:
            after = copies(manager.marker)
        if busy:  # what was under way comes to its end first
            until = time.monotonic() + 5
            while time.monotonic() < until and any(len(pids) != 1 for pids in after.values()):
                after = copies(manager.marker)
        told["gone"] += sum(1 for name in names if name not in busy and not set(before.get(name, [])) & set(after.get(name, [])))
        told["copies"] += sum(max(0, len(after.get(name, [])) - 1) for name in names)
    return told
