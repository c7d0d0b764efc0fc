"""The official Python SDK against a running mcpm; started by scripts/client-check.

Environment: ALICE_URL, BOB_URL (instance URLs), ALICE_KEY, BOB_KEY (their credentials), PID_FILE
(of the service). Runs everything twice: with the handshake of the older revisions, and with the
revision that needs none. Prints a line for each thing that holds; fails at the first that doesn't.
"""

import asyncio
import os
import re
import signal
import time

from mcp import Client

ALICE_URL, BOB_URL = os.environ["ALICE_URL"], os.environ["BOB_URL"]
ALICE_KEY, BOB_KEY = os.environ["ALICE_KEY"], os.environ["BOB_KEY"]
PID_FILE = os.environ["PID_FILE"]
COUNT_TO = 5
DELAY_MS = 200


def pid():
    with open(PID_FILE) as file:
        return int(file.read())


def is_there(process_id):
    try:
        os.kill(process_id, 0)
        return True
    except ProcessLookupError:
        return False


def check(holds, why):
    if not holds:
        raise SystemExit(f"python: {why}")


async def echo(client, message):
    result = await client.call_tool("echo", {"message": message})
    check(result.content[0].text == message, f"echo said {result.content}")


async def whoami(client):
    return (await client.call_tool("whoami", {})).structured_content


async def run(mode):
    async with Client(ALICE_URL, mode=mode) as alice, Client(BOB_URL, mode=mode) as bob:
        how = f"python, revision {alice.protocol_version}"

        def passed(what):
            print(f"ok  {how}: {what}", flush=True)

        passed(f"alice and bob connect over streamable HTTP to {alice.server_info.name}")

        tools = sorted(tool.name for tool in (await alice.list_tools()).tools)
        check(tools == ["count", "echo", "whoami"], f"the tools are {tools}")
        passed("lists the tools")

        await echo(alice, 'grüße, "alice" 🙂')
        passed("echo says back what it was told")

        seen = await asyncio.gather(whoami(alice), whoami(bob))
        for one, user, key in zip(seen, ("alice", "bob"), (ALICE_KEY, BOB_KEY)):
            check(one["user"] == user and one["service"] == "demo", f"{user} is seen as {one}")
            check(one["credential"] == f"Bearer {key[:3]}…{key[-4:]}", f"{user} is seen as {one}")
            check(re.match("ins_", one["instance"]), f"{user} is seen as {one}")
        check(seen[0]["instance"] != seen[1]["instance"], "two users are seen as one instance")
        passed("the service sees alice with her credential and bob with his")

        began, arrivals = time.monotonic(), []

        async def progress(step, total, message):
            arrivals.append((step, (time.monotonic() - began) * 1000))

        arguments = {"to": COUNT_TO, "delay_ms": DELAY_MS}
        await alice.call_tool("count", arguments, progress_callback=progress)
        steps = [step for step, _ in arrivals]
        check(steps == list(range(1, COUNT_TO + 1)), f"progress was {arrivals}")
        # The service waits DELAY_MS before each step: it cannot have sent the last one earlier.
        first, last_sent = arrivals[0][1], COUNT_TO * DELAY_MS
        check(first < last_sent, f"the first event arrived after {first:.0f} ms, too late")
        passed(
            f"progress arrives event by event: the first after {first:.0f} ms, "
            f"the last was sent after {last_sent} ms"
        )

        before = pid()
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        while is_there(before):
            await asyncio.sleep(0.001)
        # No second try: the router holds the request until the service is back.
        await echo(alice, "back again")
        back = (time.monotonic() - killed) * 1000
        check(pid() != before, "the service has its old pid")
        passed(
            f"the service was killed: the next call of the same client is answered, {back:.0f} ms later"
        )


for mode in ("legacy", "auto"):
    asyncio.run(run(mode))
