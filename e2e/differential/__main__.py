"""Plays the cases and prints what differs and what was reached.

    python -m e2e.differential [--only kafka|esker | --twice] [--validation full|default] [--json FILE] [-v] [CASE...]

A case may be named by a pattern. --twice compares Apache Kafka with Apache Kafka: what differs then is chance, and
belongs to no comparison. Needs ESKER_TOOLS and, unless only Kafka is asked, ESKER_BIN.
"""

import argparse
import fnmatch
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from . import cases, servers  # noqa: E402
from .allowed import unexplained  # noqa: E402
from .compare import differences, lines  # noqa: E402
from .coverage import Coverage  # noqa: E402
from .normal import normalise, show  # noqa: E402
from .script import run  # noqa: E402


def chosen(patterns, validation):
    for name, case in cases.every().items():
        wanted = not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        if wanted and (validation == "full" or case.validates):
            yield case


def tell(transcript, server):
    for step, exchange in enumerate(normalise(transcript, server).exchanges):
        print(f"  {step} {exchange.label}: {exchange.api} v{exchange.version} {show(exchange.answer)}")


def play(case, server, coverage, verbose):
    began = time.monotonic()
    transcript = run(case, server)
    coverage.add(transcript)
    took = time.monotonic() - began
    print(
        f"{server.name}: {case.name}: {len(transcript.exchanges)} answers in {took:.1f} s{' FAILED ' + transcript.failure if transcript.failure else ''}"
    )
    if verbose:
        tell(transcript, server)
    return transcript


def main():
    parser = argparse.ArgumentParser(
        prog="differential", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--only", choices=("kafka", "esker"))
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--validation", choices=("full", "default"), default="full")
    parser.add_argument("--json", metavar="FILE", help="where to write what was reached")
    parser.add_argument("--verbose", "-v", action="store_true", help="print every answer, with symbols for ids and times")
    options = parser.parse_args()
    wanted = list(chosen(options.cases, options.validation))
    coverage = Coverage()
    failed = found = 0
    if options.only:
        start = servers.start_kafka if options.only == "kafka" else servers.start_esker
        with servers.running(start) as server:
            for case in wanted:
                failed += bool(play(case, server, coverage, options.verbose).failure)
    else:
        other = (servers.start_kafka,) if options.twice else (servers.start_esker, options.validation)
        with servers.running(servers.start_kafka) as kafka, servers.running(*other) as esker:
            for case in wanted:
                left = normalise(play(case, kafka, coverage, options.verbose), kafka)
                right = normalise(play(case, esker, Coverage(), options.verbose), esker)
                failed += bool(left.failure)
                unmeant, _ = unexplained(differences(left, right), options.validation)
                for line in lines(unmeant):
                    print(f"  {line}")
                found += len(unmeant)
    print("\n".join(coverage.lines()))
    if options.json:
        Path(options.json).write_text(json.dumps(coverage.json(), indent=1) + "\n")
    print(f"{len(wanted)} cases, {failed} failed on the oracle, {found} unexplained differences")
    sys.stdout.flush()
    return 1 if failed or found else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
