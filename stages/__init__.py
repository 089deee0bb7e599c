"""The stages of the pipeline; Ctrl-C stops any of them without a traceback."""

import sys
import time
from types import TracebackType

# When this process began to read our code.
STARTED = time.time()


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run again to resume", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report
