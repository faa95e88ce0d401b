"""What an agent answers when it does not do what it is asked."""


class Refused(Exception):
    """status: of HTTP. missing: digests of files that have to be sent first."""

    def __init__(self, status: int, reason: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.status, self.reason, self.missing = status, reason, missing

    def __reduce__(self) -> tuple[type["Refused"], tuple[int, str, tuple[str, ...]]]:
        return type(self), (self.status, self.reason, self.missing)
