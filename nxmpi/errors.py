"""Everything that can go wrong, by who can mend it."""


class NxmpiError(Exception):
    """A failure whose message is meant for the user."""


class InputError(NxmpiError, ValueError):
    """Parameters or files that cannot be used."""


class SchemaError(InputError):
    """A file that lacks something, or holds something else than expected."""

    def __init__(self, file: object, path: str, expected: str, found: str) -> None:
        super().__init__(f"{file}:{path}: expected {expected}, found {found}")


class AnotherProgramError(InputError):
    """A result of another program, which is not replaced unasked."""


class LockedError(NxmpiError):
    """A file or step that somebody else is working on."""


class CollectiveError(NxmpiError):
    """The failure of any rank, raised with the same text on all of them."""


class EndedError(NxmpiError):
    """Waiting that was given up, since somebody wishes to stop or another rank failed."""


class StoppedError(CollectiveError):
    """A wish to stop that all ranks agreed on; what is left to do can be gone on with."""

    def __init__(self, signal: str) -> None:
        super().__init__(f"stopped by {signal}: run the same command again to go on")
