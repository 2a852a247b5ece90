"""Over which devices and processes a run is computed."""

import dataclasses
import re

from patchpu.training.setting import setting


@dataclasses.dataclass(frozen=True)
class DistributionOptions:
    """How a run is computed: no settings of it, since its results are the same.

    Raises:
        ValueError: An option is out of range, or two do not go together.
    """

    distribute: bool = setting(
        False,
        "Train on all devices of this machine (KERAS_BACKEND=jax). --batch-size is over all.",
        decides="speed",
    )
    coordinator: str | None = setting(
        None,
        "HOST:PORT where the process of rank 0 listens, to train on several machines: the same "
        "command on each, but for --rank.",
        decides="speed",
    )
    processes: int = setting(1, "Number of processes.", decides="speed")
    rank: int = setting(0, "Number of this process; 0 writes the run folder.", decides="speed")

    def __post_init__(self):
        if not self.distribute and (self.coordinator or self.processes != 1 or self.rank):
            raise ValueError("Expected --distribute with --coordinator, --processes and --rank.")
        if (self.coordinator is None) != (self.processes == 1):
            raise ValueError(
                "Expected --coordinator HOST:PORT with --processes of 2 or more. Received: "
                f"coordinator={self.coordinator}, processes={self.processes}"
            )
        if not 0 <= self.rank < self.processes:
            raise ValueError(
                f"Expected --rank from 0 to {self.processes - 1}, one below --processes. "
                f"Received: {self.rank}"
            )
        if self.processes > 1 and not re.fullmatch(r".+:\d{1,5}", self.coordinator):
            raise ValueError(f"Expected --coordinator HOST:PORT. Received: {self.coordinator!r}")
