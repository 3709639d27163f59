"""The working side: `python -m benchmarks.worker MODULE:FUNCTION JSON` sets a task up and runs a round a line of input.

The function, in a module of benchmarks.tasks, takes the JSON's entries and returns what runs a round. A round may
return facts to add to its cost. Answers are JSON lines on stdout; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def main() -> None:
    name, arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, function = name.split(":")
    task = getattr(importlib.import_module(f"benchmarks.tasks.{module}"), function)(**json.loads(arguments))

    def answer(fields: dict[str, object]) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    answer({"ready": True})
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        found = task() or {}
        answer({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, **found})


if __name__ == "__main__":
    main()
