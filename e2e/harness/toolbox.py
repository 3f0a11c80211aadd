"""Apache Kafka's tools in one JVM that runs one after another, and what must be masked to compare what they print."""

import json
import re
import subprocess
from dataclasses import dataclass

from harness import tools
from harness.process import Process, die_with_parent

TOOLS = "org.apache.kafka.tools"
MASKS = (
    # Where in the tool it failed depends on what ran before in the same JVM.
    (re.compile(r"^\s+at .*\n", re.MULTILINE), ""),
    # The bootstrap address, also as a node's host and port.
    (re.compile(r"127\.0\.0\.1:\d+|/?127\.0\.0\.1\b"), "HOST"),
    (re.compile(r"\b[\w.-]*[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b[\w-]+@[0-9]+\b"), "OBJECT"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([:.,]\d+)?\b"), "TIME"),
    (re.compile(r"\b1[789]\d{11}\b"), "TIME"),
    # Kafka's short form of a UUID: of topics, clusters, directories, members.
    (re.compile(r"(?<=\s)[\w+/-]{22}(?=\s)"), "UUID"),
    (re.compile(r"/[\w./-]*/data\b[\w./-]*"), "PATH"),
    # The width of a column depends on what is masked.
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)


@dataclass(frozen=True)
class Printed:
    """What one run of a tool left."""

    status: int
    out: str
    err: str

    def masked(self, *more):
        """All of it as lines that can be compared. Tools print what they keep in hash tables, so order says nothing."""
        text = f"status {self.status}\n{self.out}{self.err}"
        for pattern, replacement in (*more, *MASKS):
            text = re.sub(pattern, replacement, text)
        return sorted(line for line in text.splitlines() if line)


class Toolbox:
    """The JVM; it starts when first used."""

    def __init__(self):
        self.child = None

    def run(self, main, *arguments, stdin=""):
        if self.child is None:
            self.child = subprocess.Popen(
                tools.java("Tools"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        request = {"main": main, "arguments": [str(word) for word in arguments], "stdin": stdin}
        self.child.stdin.write(json.dumps(request).encode() + b"\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        assert answer, f"the JVM ended while it ran {main} {arguments}"
        return Printed(**json.loads(answer))

    def start(self, main, *arguments, folder, name):
        """A tool in a JVM of its own: for those that end the whole process, or never end."""
        return Process(tools.java(main, *arguments), folder, name)

    def close(self):
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait(tools.TOOL_SECONDS_MAX)
