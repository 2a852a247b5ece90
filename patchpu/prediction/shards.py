"""Shards of one long output."""

import hashlib
import re


class Shard:
    """One of N parts of a list of images, in its order: whole batches, as many as in the others.

    So each image is predicted in the batch in which it is without shards. With fewer batches than
    shards some are empty.

    Args:
        text: `"K/N"`, K from 1 to N.

    Raises:
        ValueError: It is not of this form, or K is not from 1 to N.
    """

    def __init__(self, text):
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        self.number, self.of = map(int, match.groups()) if match else (0, 0)
        if not 1 <= self.number <= self.of:
            raise ValueError(f"Expected --shard K/N with K from 1 to N, as 2/8. Received: {text}")

    def __str__(self):
        return f"{self.number}/{self.of}"

    def part(self, count, batch_size):
        """Range of the numbers of its images, of `count`."""
        batches = -(-count // batch_size)
        first, behind = (batches * number // self.of for number in (self.number - 1, self.number))
        return range(min(count, first * batch_size), min(count, behind * batch_size))


def names_digest(names):
    """A digest of a list of paths and of its order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
