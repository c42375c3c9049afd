"""The recipe of PyTorch's transfer-learning tutorial, "ConvNet as fixed feature extractor".

    python benchmarks/peers/tutorial.py DATA --base FILE [--epochs 25]

A new linear head is trained on the frozen base: SGD at 0.001 with momentum 0.9, the learning rate divided by ten every
7 epochs, batches of 4, random crops and flips, validation after each epoch, and the best epoch kept. As in the
tutorial, the whole network is in training mode while the head trains, so batch norm still normalises by the batch and
updates its running statistics. Prints `{"val": {"top1", "n"}, "last_top1", "epochs"}`; `top1` belongs to the best
epoch. Imports nothing from graft.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from expert import arguments, load_base, open_folders, resize_and_crop
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms


def run_epoch(
    network: nn.Module, photographs: DataLoader, device: str, optimizer: torch.optim.Optimizer | None = None
) -> float:
    """Train for an epoch, or evaluate if there is no `optimizer`, and return the accuracy."""
    network.train(optimizer is not None)
    correct = seen = 0
    for images, labels in photographs:
        images, labels = images.to(device), labels.to(device)
        with torch.set_grad_enabled(optimizer is not None):
            logits = network(images)
            if optimizer is not None:
                optimizer.zero_grad()
                F.cross_entropy(logits, labels).backward()
                optimizer.step()
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return correct / seen


def main() -> None:
    parser = arguments("A new head on a frozen base, trained as the tutorial does.")
    parser.add_argument("--epochs", type=int, default=25, help="25 in the tutorial; fewer make a smoke run")
    given = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load_base(given.base)
    train_transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(base.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(base.mean, base.std),
        ]
    )
    folders = open_folders(given.data, train_transform, resize_and_crop(base))
    train, val = (DataLoader(folder, batch_size=4, shuffle=True, num_workers=4) for folder in folders)
    network = base.network.requires_grad_(False)
    head = nn.Linear(network.get_submodule(base.head).in_features, len(folders[0].classes))
    network.set_submodule(base.head, head)
    network.to(device)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best, top1 = -1.0, 0.0
    with TemporaryDirectory() as folder:
        for _ in range(given.epochs):
            run_epoch(network, train, device, optimizer)
            schedule.step()
            top1 = run_epoch(network, val, device)
            if top1 > best:
                best = top1
                torch.save(network.state_dict(), Path(folder) / "best.pt")
    print(json.dumps({"val": {"top1": best, "n": len(folders[1])}, "last_top1": top1, "epochs": given.epochs}))


if __name__ == "__main__":
    main()
