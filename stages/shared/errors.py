"""The one kind of error a person can cause and mend."""


class StageError(Exception):
    """A mistake in the input, the parameters or the machine's state.

    Its text is one line that names the problem and the way out. `command.run` prints that line
    and exits with 1; every other exception is a defect of ours and keeps its traceback.
    """
