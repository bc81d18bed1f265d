"""`majordomo`: the user's command line."""

from __future__ import annotations

import os
import sys

from computefarm.errors import FarmError


def main() -> int:
    """Run the command line; return the exit code."""
    # Imported late, so that a broken installation is told in a message rather than by the import system.
    from computefarm.majordomo.app import MajorDomo

    try:
        code = MajorDomo().run(sys.argv[1:])
        sys.stdout.flush()
    except FarmError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone (`majordomo list | head`): nothing is left to say, nor to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
