"""The paper's network in plain torch.nn, channels last in memory: what PyTorch itself can do.

Has of a Keras model what `step.py` calls: `fit` and `predict_on_batch`. Weights are other random
ones; the numbers of training and prediction are not compared, their times are.
"""

import torch
from torch import nn
from torch.nn import functional

from keras_patchpu.layers.patch_embedder import BLOCKS


class Same(nn.Conv2d):
    """Convolution whose outputs are as many as TensorFlow's 'same' gives."""

    def forward(self, maps):
        side, size, stride = maps.shape[2], self.kernel_size[0], self.stride[0]
        total = max(0, (-(-side // stride) - 1) * stride + size - side)
        before, padding = total // 2, 0
        if total % 2:
            maps = functional.pad(maps, (before, total - before) * 2)
        else:
            padding = before
        return functional.conv2d(maps, self.weight, self.bias, self.stride, padding, 1, self.groups)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Bottleneck(nn.Module):
    def __init__(self, channels, filters, kernel_size, stride, expansion):
        super().__init__()
        wide, squeezed = channels * expansion, max(1, channels // 4)
        self.has_shortcut = stride == 1 and channels == filters
        self.expand = nn.Identity()
        if expansion > 1:
            pointwise = nn.Conv2d(channels, wide, 1, bias=False)
            self.expand = nn.Sequential(pointwise, norm(wide), nn.SiLU())
        self.depthwise = nn.Sequential(
            Same(wide, wide, kernel_size, stride, groups=wide, bias=False), norm(wide), nn.SiLU()
        )
        self.gate = nn.Sequential(
            nn.Conv2d(wide, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, wide, 1), nn.Sigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, filters, 1, bias=False), norm(filters))

    def forward(self, inputs):
        maps = self.depthwise(self.expand(inputs))
        maps = self.project(maps * self.gate(maps.mean((2, 3), keepdim=True)))
        return maps + inputs if self.has_shortcut else maps


class PlainTorch(nn.Module):
    def __init__(self, num_labels, patch_size, num_downsamples, features=256):
        super().__init__()
        self.patch_size, self.num_downsamples = patch_size, num_downsamples
        layers, channels = [Same(3, 32, 3, 2, bias=False), norm(32), nn.SiLU()], 32
        for _, filters, *rest in BLOCKS:
            layers.append(Bottleneck(channels, filters, *rest))
            channels = filters
        self.embedder = nn.Sequential(*layers)
        self.projection = nn.Linear(channels, features)
        self.codebook = nn.Parameter(torch.randn(num_labels, features) / features**0.5)
        self.mlp = nn.Sequential(
            nn.Linear(features, features), nn.GELU(), nn.Linear(features, features)
        )
        self.kernel = nn.Parameter(torch.randn(features, num_labels) / features**0.5)
        self.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3)

    def forward(self, images):
        size, levels = self.patch_size, []
        maps = images.permute(0, 3, 1, 2).float()
        for level in range(self.num_downsamples + 1):
            maps = functional.avg_pool2d(maps, 2) if level else maps
            rows = maps.shape[2] // size
            cut = maps[:, :, : rows * size, : rows * size]
            cut = cut.reshape(-1, 3, rows, size, rows, size).permute(0, 2, 4, 1, 3, 5)
            levels.append(cut.reshape(-1, rows * rows, 3, size, size))
        patches = torch.cat(levels, 1).flatten(0, 1) / 255
        patches = patches.contiguous(memory_format=torch.channels_last)
        embeddings = self.projection(self.embedder(patches).mean((2, 3)))
        embeddings = embeddings.reshape(len(images), -1, embeddings.shape[-1])
        attention = torch.softmax(self.codebook @ embeddings.transpose(1, 2), -1)
        pooled = attention @ embeddings
        pooled = self.mlp(pooled) + pooled
        scores = pooled @ self.kernel
        own = torch.diagonal(scores, dim1=1, dim2=2)
        others = torch.logsumexp(scores - 1e9 * torch.eye(scores.shape[1]), -1)
        return own - others, pooled

    def fit(self, images, labels, batch_size, shuffle, verbose, callbacks):
        (clock,) = callbacks
        clock.on_train_begin()
        self.train()
        for index in range(len(images) // batch_size):
            part = slice(index * batch_size, (index + 1) * batch_size)
            logits, pooled = self(torch.from_numpy(images[part]))
            present = torch.from_numpy(labels[part] > 0)
            with torch.no_grad():
                unit = functional.normalize(pooled, dim=-1)
                similarity = (unit @ unit.transpose(1, 2)).clamp(min=0)
                weights = torch.where(present[:, None], similarity, 0.0).amax(-1) * ~present
            terms = present * functional.softplus(-logits) + weights * functional.softplus(logits)
            loss = terms.sum(-1).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            clock.on_train_batch_end(index, {"loss": loss.detach()})

    def predict_on_batch(self, images):
        self.eval()
        with torch.no_grad():
            return torch.sigmoid(self(torch.from_numpy(images))[0]).numpy()
