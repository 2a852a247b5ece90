"""How far a run has come."""

import dataclasses
import json
import pathlib

from keras_patchpu.utils.validation import FileError, check_positive_integer


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come; lies in its checkpoint, so that both are of the same moment.

    Attributes:
        epochs: Whole epochs done.
        steps: Steps done of the epoch that is under way.
        seconds: Time that these steps took.
        loss: Variables of the mean loss over these steps, as numbers.
        random: States of the model's generators of random numbers, which its file does not hold.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    loss: tuple = ()
    random: tuple = ()

    def save(self, folder):
        """Writes `progress.json` into the folder of a checkpoint."""
        text = json.dumps(dataclasses.asdict(self)) + "\n"
        pathlib.Path(folder, "progress.json").write_text(text)

    @classmethod
    def load(cls, folder):
        """Reads `progress.json` in the folder of a checkpoint; `None` if there is none.

        Raises:
            FileError: The file is damaged.
        """
        path = pathlib.Path(folder, "progress.json")
        if not path.exists():
            return None
        try:
            progress = cls(**json.loads(path.read_bytes()))
            check_positive_integer("epochs", progress.epochs, minimum=0)
            check_positive_integer("steps", progress.steps, minimum=0)
        except (TypeError, ValueError) as error:
            raise FileError(
                f"{path} is damaged: it does not tell how far the run has come"
            ) from error
        return progress

    def __str__(self):
        if not self.steps:
            return f"after epoch {self.epochs}" if self.epochs else "before the first step"
        return f"in epoch {self.epochs + 1} after step {self.steps}"
