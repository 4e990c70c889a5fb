"""What tests of interrupted runs share."""

from linnet.training.stop import Stop


class StopAfter(Stop):
    """A request to stop that comes when it is looked for the `count`-th time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    @property
    def asked(self) -> bool:
        self.count -= 1
        if self.count == 0:
            self.ask()
        return super().asked
