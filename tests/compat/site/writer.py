"""A process that performs operations, one for each line of JSON on its standard input: the project's own worker."""

from __future__ import annotations

import json
import sys

import django


def main() -> None:
    """Answer each line with one line: the result, or the text of the error."""
    django.setup()
    from .operations import perform

    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"result": perform(call["name"], call["arguments"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
