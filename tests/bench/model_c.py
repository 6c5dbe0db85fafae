"""Trains model C (vit_config_cifar_cls) with PyTorch, for the row of README that
stands beside `build/12_photos --preset cifar-cls --held 0`: the same JPEG files,
recipe and start, so that both should end equally well.

    python tests/bench/model_c.py DATA [--seed N] [--out DIR] [--epochs N] [--threads N]
                                     [--compile]

DATA holds train/CLASS/*.jpg and test/CLASS/*.jpg. A line an epoch; the test
accuracy every ten epochs for information, and at the end. A run that was stopped
goes on, at its last fifth epoch, with the same command.
"""
import argparse
import math
import os
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

BATCH, RATE, DECAY = 256, 1e-2, 1e-2
CLASSES, WIDTH, DEPTH, HEADS, HIDDEN, PATCH, PATCHES = 10, 48, 4, 4, 192, 4, 64


class Block(nn.Module):
    """Pre-norm. The source has a Linear for Q, K and V of each head; as one matrix
    they compute the same."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x, rows):
        """Only the first `rows` tokens go on: in the last block the class token."""
        D = x.shape[2]
        y = self.norm1(x)
        q = F.linear(y[:, :rows], self.qkv.weight[:D], self.qkv.bias[:D])
        kv = F.linear(y, self.qkv.weight[D:], self.qkv.bias[D:])
        q, k, v = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (q, *kv.chunk(2, dim=2)))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x[:, :rows] + self.proj(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class ModelC(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, 1 + PATCHES, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, CLASSES)
        for name, p in self.named_parameters():  # layer norms start at 1 and 0
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif "norm" not in name:
                nn.init.normal_(p, std=0.02)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.positions
        for i, block in enumerate(self.blocks):
            x = block(x, x.shape[1] if i < DEPTH - 1 else 1)
        return self.head(x[:, 0])


def load(folder):
    """Every picture once, as bytes [N,3,32,32], and the number of its class."""
    images, labels = [], []
    for label, name in enumerate(sorted(os.listdir(folder))):
        path = os.path.join(folder, name)
        for file in sorted(os.listdir(path)):
            images.append(np.asarray(Image.open(os.path.join(path, file)).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), torch.tensor(labels)


def normal(images):
    return images.float() / 127.5 - 1  # mean and std 0.5


def augment(images):
    """A random resized crop of 0.8 to 1 of the area, sides 3:4 to 4:3 or, where that
    is too long, as long as the image; half of the images are mirrored."""
    n = len(images)
    area = 0.8 + 0.2 * torch.rand(n)
    ratio = torch.exp((2 * torch.rand(n) - 1) * math.log(4 / 3))
    high = (area / (area * ratio).sqrt().clamp(max=1)).clamp(max=1)
    wide = area / high
    place = torch.zeros(n, 2, 3)  # from (x, y, 1) of the output, -1 .. 1, to the input
    place[:, 0, 0] = wide * torch.where(torch.rand(n) < 0.5, -1, 1)
    place[:, 1, 1] = high
    place[:, 0, 2] = (1 - wide) * (2 * torch.rand(n) - 1)
    place[:, 1, 2] = (1 - high) * (2 * torch.rand(n) - 1)
    grid = F.affine_grid(place, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@torch.inference_mode()
def accuracy(model, images, labels):
    pairs = zip(images.split(1000), labels.split(1000))
    return 100 * sum((model(normal(x)).argmax(1) == y).sum().item() for x, y in pairs) / len(labels)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    a.add_argument("data")
    a.add_argument("--out", default="out/model-c-torch")
    for name, value in (("seed", 1), ("epochs", 100), ("threads", 2)):
        a.add_argument("--" + name, type=int, default=value)
    a.add_argument("--compile", action="store_true", help="torch.compile: a tenth faster")
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    train, test = (load(os.path.join(a.data, part)) for part in ("train", "test"))
    model = ModelC()
    net = torch.compile(model, dynamic=False) if a.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train[1])} images, "
          f"{len(test[1])} for the test, seed {a.seed}", flush=True)
    checkpoint, begin = os.path.join(a.out, f"seed-{a.seed}.pt"), 0
    if os.path.exists(checkpoint):
        begin, weights, moments, random = torch.load(checkpoint)
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        torch.set_rng_state(random)

    for epoch in range(begin + 1, a.epochs + 1):
        start, total = time.time(), 0.0
        for i in torch.randperm(len(train[1])).split(BATCH):
            loss = F.cross_entropy(net(augment(normal(train[0][i]))), train[1][i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(i)
        print(f"epoch {epoch:3d}  loss {total / len(train[1]):.4f}  {time.time() - start:.1f} s"
              + ("" if epoch % 10 else f"  test {accuracy(model, *test):.2f} %"), flush=True)
        if epoch % 5 == 0 or epoch == a.epochs:
            state = (epoch, model.state_dict(), optimizer.state_dict(), torch.get_rng_state())
            torch.save(state, checkpoint + ".tmp")
            os.replace(checkpoint + ".tmp", checkpoint)
    print(f"test accuracy {accuracy(model, *test):.2f} %", flush=True)


if __name__ == "__main__":
    main()
