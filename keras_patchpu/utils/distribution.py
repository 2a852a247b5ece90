"""Several devices and machines, on the backend JAX: what Keras leaves to its users.

Keras distributes the variables and the step (`keras.distribution.DataParallel`). Of each process it
wants a share of every batch, of a size that divides over the devices. Here a share is filled up by
repeated images, and `without_filling` cuts those off inside the compiled step, before the model
sees them: so a step computes what it does on one device, incomplete batches included.
"""

import contextlib
import math

import keras
import numpy as np

# A process that gave no sign of life for so long counts as dead, and ends the others.
_HEARTBEAT_SECONDS = 20
_SECONDS_TO_START = 300
# Nobody knows how long the others look over their images; a dead one is noticed before.
_SECONDS_TO_PREPARE = 24 * 3600
# Among the labels of a batch: an array with as many columns as the batch has images.
_COUNT = "images_in_batch"


def start(batch_size, coordinator=None, processes=1, rank=0):
    """Distributes what this process makes from now on over all devices of all processes.

    Call it before anything is computed.

    Args:
        batch_size: Images a step, over all devices.
        coordinator: `host:port` at which the first process listens to the others. Defaults to
            `None`: there is one process.
        processes: Number of processes. Defaults to `1`.
        rank: Number of this process, from 0. Defaults to `0`.

    Raises:
        ValueError: The backend is not JAX, the processes do not find each other or have
            different numbers of devices, or the batch does not divide over the devices.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Expected the backend JAX with --distribute: set KERAS_BACKEND=jax in the environment "
            f"(extra `jax`). Received: {keras.backend.backend()}"
        )
    import jax

    if coordinator is not None:
        try:
            # Keras's own `initialize` has no argument for the seconds.
            jax.distributed.initialize(
                coordinator,
                processes,
                rank,
                initialization_timeout=_SECONDS_TO_START,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        except RuntimeError as error:
            raise ValueError(
                f"The {processes} processes did not find each other at {coordinator}: {error}"
            ) from error
    devices = jax.device_count()
    if jax.local_device_count() * jax.process_count() != devices:
        raise ValueError(
            "Expected as many devices in each process. Received: "
            f"{jax.local_device_count()} here, {devices} in all {jax.process_count()}"
        )
    if batch_size % devices:
        raise ValueError(
            f"Expected a --batch-size, which is over all devices, that divides over {devices} "
            f"devices. Received: {batch_size}"
        )
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    gathered(0)  # connects the processes while they are at the same place, see `wait_for_all`


def leave():
    """Lets the other processes go; what is made from now on is on one device of this process."""
    several = num_processes() > 1
    keras.distribution.set_distribution(None)
    if several:
        import jax

        jax.distributed.shutdown()


@contextlib.contextmanager
def alone():
    """While it lasts, Keras asks nothing of the other processes."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def num_devices():
    """Devices of all processes over which Keras distributes, or 0 if it does not."""
    distribution = keras.distribution.distribution()
    return 0 if distribution is None else math.prod(distribution.device_mesh.shape)


def num_processes():
    """Processes over which Keras distributes; 1 if it does not."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_processes


def rank():
    """Number of this process; 0 if there is only one."""
    if num_processes() == 1:
        return 0
    import jax

    return jax.process_index()


def gathered(number):
    """What each process gives, an integer below 2 ** 31, by rank. All must call it."""
    if num_processes() == 1:
        return [number]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray([number], "int32")).ravel().tolist()


def wait_for_all():
    """Waits until all processes are here, once a run.

    What is exchanged between CPUs fails where a process comes half a minute after another.
    """
    if num_processes() == 1:
        return
    try:
        from jax._src.distributed import global_state
    except ImportError:  # not public
        return
    global_state.client.wait_at_barrier("keras_patchpu_prepared", _SECONDS_TO_PREPARE * 1000)


def copy_from_first(path):
    """Writes the file of the first process, if it has one there, at the path of the others."""
    if num_processes() == 1:
        return
    from jax.experimental import multihost_utils

    first = rank() == 0
    content = path.read_bytes() if first and path.exists() else b""
    size = gathered(len(content))[0]
    buffer = np.zeros(size, "uint8")
    buffer[: len(content)] = np.frombuffer(content, "uint8")
    if size:
        buffer = multihost_utils.broadcast_one_to_all(buffer)
        if not first:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(np.asarray(buffer).tobytes())


class Shares(keras.utils.PyDataset):
    """The share that this process reads of each batch, filled up to divide over the devices.

    Args:
        batches: Dataset of whole batches with a method `numbers`, of the number of a batch to
            those of its images, and an attribute `share`, which is set: a function of these to
            those that are read.
    """

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        batches.share = self._share

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        batch = self.batches[index]
        if not isinstance(batch, tuple):
            return batch
        images, labels = batch
        labels = labels if isinstance(labels, dict) else {"labels": labels}
        count = len(self.batches.numbers(index))
        return images, {**labels, _COUNT: np.zeros((len(images), count), "bool")}

    def on_epoch_end(self):
        self.batches.on_epoch_end()

    def is_image(self):
        """For all rows of all batches, whether they are images and not what fills up."""
        counts = [len(self.batches.numbers(index)) for index in range(len(self))]
        return np.concatenate([np.arange(_filled(count)) < count for count in counts])

    def _share(self, numbers):
        total, processes, own = _filled(len(numbers)), num_processes(), rank()
        repeated = np.resize(numbers, total)
        return repeated[own * total // processes : (own + 1) * total // processes]


class ArrayBatches(keras.utils.PyDataset):
    """Batches of an array in its order, for `Shares`."""

    def __init__(self, array, batch_size):
        super().__init__()
        self.array = array
        self.batch_size = batch_size
        self.share = np.asarray

    def __len__(self):
        return math.ceil(len(self.array) / self.batch_size)

    def numbers(self, index):
        start = index * self.batch_size
        return np.arange(start, min(start + self.batch_size, len(self.array)))

    def __getitem__(self, index):
        return self.array[self.share(self.numbers(index))]


def _filled(count):
    """The number up to which `count` images are filled."""
    devices = num_devices()
    return -(-count // devices) * devices


def without_filling(data):
    """The data of a training step without the images that `Shares` repeated."""
    if not (isinstance(data, tuple) and len(data) > 1 and isinstance(data[1], dict)):
        return data
    images, labels, *rest = data
    if _COUNT not in labels:
        return data
    labels = dict(labels)
    count = labels.pop(_COUNT).shape[1]
    cut = keras.tree.map_structure(lambda values: values[:count], (images, labels))
    return *cut, *rest


def on_all_devices(outputs):
    """Outputs of a step, sharded over devices, as whole arrays in every process."""
    mesh = keras.distribution.distribution().device_mesh

    def whole(values):
        layout = keras.distribution.TensorLayout([None] * len(values.shape), mesh)
        return keras.distribution.distribute_tensor(values, layout)

    return keras.tree.map_structure(whole, outputs)
