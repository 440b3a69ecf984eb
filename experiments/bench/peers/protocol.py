"""A contender's side of the benchmark: it stays alive, works when asked, and speaks JSON lines on its standard streams.

    {"prepare": {…}}  →  {"ready": {"versions": {…}, "settings": "…"}}
    {"run": N}        →  {"seconds": [N times]}
    {"rss": true}     →  {"rss": peak resident bytes so far}
    anything that fails → {"error": "…"}
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One unit of work, from the batch in host memory to the result in host memory.
Work = Callable[[], object]


def peak_rss() -> int:
    """Bytes. Linux's own high-water mark: getrusage's would include what the parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve(prepare: Callable[[dict], tuple[Work, dict]]) -> None:
    """Answers requests until standard input ends. `prepare` returns the work and what to say of versions and settings."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with replies
    work = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                work, about = prepare(request["prepare"])
                if "MALLOC_TRIM_THRESHOLD_" in os.environ:
                    about["settings"] = ", ".join(filter(None, [about.get("settings"), "freed memory kept"]))
                reply = {"ready": about}
            elif "run" in request:
                reply = {"seconds": [timed(work) for _ in range(request["run"])]}
            else:
                reply = {"rss": peak_rss()}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
