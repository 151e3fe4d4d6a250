"""Every error that a person can cause or meet, under one root.

    NasError                     one line: what, where, what is allowed, the mend
    ├── UsageError               a wrong name, option or combination
    │   └── InfeasibleError      a budget that nothing in the space can meet
    ├── FileFormatError          a file that is not what it should be: schema, hash, shape, truncation
    ├── DataError                images that are missing, unreadable or unlabelled
    ├── OutputError              a file or folder that cannot be written
    ├── TrainingError            a training that cannot go on
    ├── VerificationError        a model that does not compute what it should
    └── DeviceError              a device that is absent, or a measurement that failed

The command line prints ``str(error)``, which is always one line, and exits with ``error.exit_code``.
"""


class NasError(Exception):
    """The root. ``exit_code`` is what the command line exits with: 2 for wrong input, 1 for failed work."""

    exit_code = 2

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class UsageError(NasError):
    """A wrong name, option value or combination of options."""


class InfeasibleError(UsageError):
    """A budget or constraint that no network of the space meets; the message says what is reachable."""


class FileFormatError(NasError):
    """A file whose schema, hash, shapes or values are not what they should be; the message names the file."""


class DataError(NasError):
    """Images that are missing, unreadable, unlabelled or misshapen; the message says where they were sought."""


class OutputError(NasError):
    """A file or folder that cannot be written; the message names it and the system's reason."""

    exit_code = 1


class TrainingError(NasError):
    """A training that cannot go on, such as one whose loss is no longer finite."""

    exit_code = 1


class VerificationError(NasError):
    """A model that does not compute what it should; the message says which check failed and by how much."""

    exit_code = 1


class DeviceError(NasError):
    """A device that is absent or a measurement that failed."""

    exit_code = 1
