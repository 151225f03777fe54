#!/usr/bin/env python3
"""Drives `falconer mcp` with Python's own MCP client, as a user's program would.

    client.py MODE WORK FALCONER [ARGUMENT ...]

MODE is `legacy`, `auto` or `2026-07-28`; WORK is a directory in which runs may work; the rest is the server's command.
The server's environment is this process's. It goes through list, plan, spawn, poll to the end, get, artifact, continue,
cancel and list, with the backends `exec` (programs: sh) and `hostile` (see tests/hostile), prints one line a step, and
ends with 0 only when all of them were right.
"""
import json
import os
import sys

import anyio
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

TERMINAL = {"completed", "failed", "cancelled", "rejected", "lost"}


class Driver:
    def __init__(self, client, work):
        self.client, self.work = client, work

    async def call(self, tool, /, **arguments):
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, "%s %s: %s" % (tool, arguments, result.content)
        structure = result.structured_content
        assert json.loads(result.content[0].text) == structure, "%s: text and structure differ" % tool
        return structure

    async def refused(self, code, tool, /, **arguments):
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, "%s took %s" % (tool, arguments)
        fault = json.loads(result.content[0].text)
        assert fault["code"] == code, "%s: %s, not %s" % (tool, fault, code)
        return fault

    async def events(self, run_id):
        """Polls to the end; checks that the numbers are 1, 2, 3 … and that nothing follows the end."""
        events, after = [], 0
        while True:
            page = await self.call("poll_events", run_id=run_id, after_seq=after, wait_ms=10_000)
            events += page["events"]
            after = page["next_after_seq"]
            if page["ended"] and not page["has_more"]:
                break
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["type"] == "run_started", events[0]
        assert [event["type"] for event in events if event["type"].startswith("run_")][1:] == [events[-1]["type"]]
        return events

    def exec(self, script):
        return {"backend": "exec", "cwd": self.work, "config": {"program": "sh", "args": ["-c", script]}}

    def hostile(self, **config):
        return {"backend": "hostile", "cwd": self.work, "prompt": "hello", "config": config}

    async def all(self):
        tools = [tool.name for tool in (await self.client.list_tools()).tools]
        assert {"spawn_run", "poll_events", "cancel_run", "get_event_artifact"} <= set(tools), tools
        backends = {b["name"]: b for b in (await self.call("list_backends"))["backends"]}
        assert backends["exec"]["state"] == "ready", backends["exec"]
        step("list: %s" % ", ".join(sorted(backends)))

        plan = await self.call("plan_run", **self.exec("echo hello"))
        assert plan["allowed"], plan
        step("plan: %s" % plan["summary"])

        spawned = await self.call("spawn_run", **self.exec("for i in 1 2 3; do echo line $i; done"))
        run_id = spawned["run_id"]
        step("spawn: %s %s" % (run_id, spawned["status"]))
        events = await self.events(run_id)
        assert "line 3" in json.dumps(events)
        step("poll: %d events to %s" % (len(events), events[-1]["type"]))
        run = await self.call("get_run", run_id=run_id)
        assert run["status"] == "completed" and run["last_seq"] == len(events), run
        step("get: %s, %r" % (run["status"], run["result"]["text"]))

        spawned = await self.call("spawn_run", wait_ms=30_000, **self.hostile(mode="multibyte", size=40_000))
        events = await self.events(spawned["run_id"])
        event = next(event for event in events if event["type"] == "agent_message")
        text, offset = "", 0
        while offset is not None:
            piece = await self.call("get_event_artifact", run_id=spawned["run_id"], seq=event["seq"], pointer="/text", offset=offset)
            text += piece["content"]
            offset = piece["next_offset"]
        assert text == ("aé€𝄞" * 4_000), "%d characters" % len(text)
        step("artifact: %d bytes in pieces" % piece["total_bytes"])

        first = await self.call("spawn_run", wait_ms=30_000, **self.hostile(mode="echo"))
        assert first["result"]["text"] == "hello", first
        second = await self.call("continue_run", run_id=first["run_id"], message="and on", wait_ms=30_000)
        assert second["action"] == "continued" and second["session_id"] == first["session_id"], second
        assert second["result"]["text"] == "and on (after native-1)", second
        step("continue: %s" % second["run_id"])

        idle = await self.call("spawn_run", **self.hostile(mode="idle"))
        waited = await self.call("wait_runs", run_ids=[idle["run_id"]], wait_ms=100)
        assert not waited["ready"], waited
        cancelled = await self.call("cancel_run", run_id=idle["run_id"], reason="enough")
        assert cancelled["status"] == "cancelled" and cancelled["receipt"]["reason"] == "enough", cancelled
        step("cancel: %s" % json.dumps(cancelled["receipt"]["rungs"]))

        fault = await self.refused("unknown_backend", "spawn_run", backend="nobody", prompt="x")
        step("refusal: %s" % fault["message"])
        await self.refused("invalid_argument", "spawn_run", backend="exec", surprise=1)

        runs = (await self.call("list_runs", limit=50))["runs"]
        mine = [run["run_id"] for run in runs][:5]
        assert mine == [idle["run_id"], second["run_id"], first["run_id"], spawned["run_id"], run_id], mine
        assert all(run["status"] in TERMINAL for run in runs)
        step("list: %d runs" % len(runs))


def step(text):
    print(text, flush=True)


async def main():
    mode, work, command, *arguments = sys.argv[1:]
    server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ), cwd=work)
    async with Client(stdio_client(server), mode=mode) as client:
        await Driver(client, work).all()


if __name__ == "__main__":
    anyio.run(main)
