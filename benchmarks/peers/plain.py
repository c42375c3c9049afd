"""The fine-tuning script that most practitioners have at hand: a new head first, then all layers with augmentation.

    python benchmarks/peers/plain.py DATA --base FILE [--size 128] [--split test] [--seed 0] [--epochs 20]

Trains the head alone for three epochs, then all layers for 20: random resized crops of at least half the area, flips,
colour jitter of 0.2, one-cycle AdamW at 0.001, label smoothing of 0.1, batches of 32, the last weights. Prints `{"val":
{"top1", "n"}}`, keyed by the split. Imports nothing from graft.
"""

import json
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from expert import arguments, augmented, load_base, open_folders, resize_and_crop
from torch import nn
from torch.utils.data import DataLoader

HEAD_EPOCHS, HEAD_RATE, RATE = 3, 1e-2, 1e-3


def train(network: nn.Module, parameters: Iterable, batches: DataLoader, epochs: int, rate: float, device: str) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, epochs=epochs, steps_per_epoch=len(batches))
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images.to(device)), labels.to(device), label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            schedule.step()


def main() -> None:
    parser = arguments("A new head, then all layers, with augmentation.")
    parser.add_argument("--epochs", type=int, default=20, help="epochs in which all layers train")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load_base(given.base)
    base = base._replace(size=given.size or base.size)
    folder, held_out = open_folders(given.data, augmented(base), resize_and_crop(base), given.split)
    # A last batch of one image would give batch norm no statistics.
    batches = DataLoader(folder, 32, shuffle=True, num_workers=2, drop_last=len(folder) > 32, persistent_workers=True)
    network = base.network
    inputs = network.get_submodule(base.head).in_features
    network.set_submodule(base.head, nn.Linear(inputs, len(folder.classes)))
    network.to(device)
    head = list(network.get_submodule(base.head).parameters())
    network.requires_grad_(False)
    for parameter in head:
        parameter.requires_grad_(True)
    train(network, head, batches, HEAD_EPOCHS, HEAD_RATE, device)
    network.requires_grad_(True)
    train(network, network.parameters(), batches, given.epochs, RATE, device)
    network.eval()
    with torch.inference_mode():
        right = sum(
            int((network(images.to(device)).argmax(1).cpu() == labels).sum())
            for images, labels in DataLoader(held_out, 64, num_workers=2)
        )
    print(json.dumps({given.split: {"top1": right / len(held_out), "n": len(held_out)}}))


if __name__ == "__main__":
    main()
