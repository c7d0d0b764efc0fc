"""A session of the Python SDK, 1.x or 2.x, whose service is killed three times; started by
scripts/session-check.

Environment: URL (of an instance of a service with the tool `echo`), PID_FILE (of the service). Raises
at the first call that fails.
"""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from importlib.metadata import version

KILLS = 3
URL, PID_FILE = os.environ["URL"], os.environ["PID_FILE"]


@asynccontextmanager
async def connected():
    if version("mcp").startswith("1."):
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client

        async with streamablehttp_client(URL) as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
    else:
        from mcp.client import Client

        async with Client(URL) as client:
            yield client


async def echo(client, message):
    result = await client.call_tool("echo", {"message": message})
    assert message in result.content[0].text, result


async def main():
    waits = []
    async with connected() as client:
        await echo(client, "before")
        for kill in range(KILLS):
            with open(PID_FILE, encoding="utf-8") as file:
                os.kill(int(file.read()), signal.SIGKILL)
            began = time.monotonic()
            await echo(client, f"after-{kill}")
            waits.append(round((time.monotonic() - began) * 1000))
            assert (await client.list_tools()).tools
    waits = ", ".join(map(str, waits))
    print(f"ok  python {version('mcp')}: {KILLS} kills, no call failed; waits {waits} ms")


asyncio.run(asyncio.wait_for(main(), 60))
