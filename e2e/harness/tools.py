"""Where the tools are, and Apache Kafka's own command line tools as functions."""

import os
import subprocess
from pathlib import Path

E2E = Path(__file__).resolve().parent.parent

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GET_OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PRODUCER_PERF = "org.apache.kafka.tools.ProducerPerformance"
DUMP_LOG = "org.apache.kafka.tools.DumpLogSegments"
STORAGE = "kafka.tools.StorageTool"
BROKER = "kafka.Kafka"

# Short runs: a quick start matters more than the speed reached after minutes.
SHORT_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
TOOL_SECONDS_MAX = 300


def folder():
    """The links that `e2e/tools/install` made."""
    return Path(os.environ["ESKER_TOOLS"])


def full():
    """Whether the long form of every test was asked for."""
    return bool(os.environ.get("FULL"))


def java(main, *arguments, jvm=SHORT_JVM):
    """The command line that runs one class of Kafka's jars."""
    return [
        "java",
        *jvm,
        f"-Dlog4j2.configurationFile={E2E / 'tools/kafka/log4j2.properties'}",
        "-cp",
        f"{folder() / 'java'}:{folder() / 'kafka'}/*",
        main,
        *map(str, arguments),
    ]


def kafkajs_environment():
    """Where node finds kafkajs: the programs that use it are in the checkout, the package is not."""
    return {**os.environ, "NODE_PATH": str(folder() / "kafkajs/node_modules")}


def run(command, stdin=b"", check=True, seconds=TOOL_SECONDS_MAX, **options):
    """Runs a tool to its end; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=seconds, **options
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command[-8:]))} exited with {done.returncode}\n"
            f"{done.stdout.decode(errors='replace')[-2000:]}\n{done.stderr.decode(errors='replace')[-4000:]}"
        )
    return done


def kafka(main, *arguments, **options):
    """Runs one of Kafka's tools and returns what it printed."""
    return run(java(main, *arguments), **options).stdout
