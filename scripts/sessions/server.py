"""A service of the Python SDK 1.x, for scripts/session-check."""

import os

from mcp.server.fastmcp import FastMCP

server = FastMCP("fast", host="127.0.0.1", port=int(os.environ["PORT"]))


@server.tool()
def echo(message: str) -> str:
    return message


server.run(transport="streamable-http")
