"""The regular expression engines that read the patterns of the OpenAPI document."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import jsonschema_rs
import re2

# JSON Schema asks for ECMA-262 with the flag u. One line of JSON in, one line of JSON out.
NODE = """
const lines = require("node:readline").createInterface({input: process.stdin});
lines.on("line", line => {
    const {pattern, text} = JSON.parse(line);
    console.log(new RegExp(pattern, "u").test(text));
});
"""


class Engine(Protocol):
    def matches(self, pattern: str, text: str) -> bool: ...


class Python:
    def matches(self, pattern: str, text: str) -> bool:
        return re.search(pattern, text) is not None


class Re2:
    def matches(self, pattern: str, text: str) -> bool:
        return re2.search(pattern, text) is not None


class Rust:
    def matches(self, pattern: str, text: str) -> bool:
        return jsonschema_rs.is_valid({"pattern": pattern}, text)


class Program:
    """An engine in a process of its own, which reads and writes a line of JSON at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def matches(self, pattern: str, text: str) -> bool:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps({"pattern": pattern, "text": text}) + "\n")
        stdin.flush()
        return bool(json.loads(stdout.readline()))


@contextmanager
def running_engine(*command: str) -> Iterator[Program]:
    """Run a program that is an engine for as long as the block lasts."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield Program(process)


def accepts(engine: Engine, schema: dict[str, Any], text: str) -> bool:
    """Return whether a text meets the patterns of a schema, as an engine understands them."""
    forbidden = schema.get("not", {}).get("pattern")
    return engine.matches(schema["pattern"], text) and not (
        forbidden and engine.matches(forbidden, text)
    )
