"""A plain training loop for a GPU as people write it, with torchvision's network and loaders or with timm's.

    python benchmarks/peers/loop.py DATA --base FILE [--level all] [--size 224] [--batch-size 64] [--epochs 3] [--timm]

Follows torch's tuning guide: autocast in bfloat16, channels_last, fused AdamW with a cosine schedule, pinned memory and
persistent workers. Augmentation is that of `graft train --augment medium`: random resized crops of at least half the
area, flips, colour jitter of 0.2. With `--timm`, images, augmentation and network are timm's, with the defaults of its
training script for everything else, and images are normalised on the device. `--level stages:2` trains the last two
stages of a ResNet and the head; `all` trains everything. Prints JSON: the seconds of each epoch with its validation,
accuracy, and peak memory. Imports nothing from graft.
"""

import json
import os
import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from expert import Base, arguments, augmented, load_base, open_folders, resize_and_crop
from memory import most_memory
from torch import Tensor, nn
from torch.utils.data import DataLoader

RATE, SMOOTHING, STAGES = 2e-4, 0.1, ("layer3", "layer4", "fc")

Batches = Iterable[tuple[Tensor, Tensor]]


def torchvision_batches(given: object, base: Base) -> tuple[Batches, Batches, int]:
    """Batches to train on, batches to validate on, and the number of classes."""
    train, val = open_folders(given.data, augmented(base), resize_and_crop(base), given.split)
    how = {"num_workers": given.workers, "pin_memory": given.cuda, "persistent_workers": given.workers > 0}
    batches = DataLoader(train, given.batch_size, shuffle=True, drop_last=len(train) > given.batch_size, **how)
    return batches, DataLoader(val, given.batch_size, **how), len(train.classes)


def timm_batches(given: object, base: Base) -> tuple[Batches, Batches, int]:
    from timm.data import create_dataset, create_loader

    def loader(split: str, training: bool, **how: object) -> tuple[Batches, int]:
        images = create_dataset("folder", given.data / split, is_training=training)
        batches = create_loader(
            images,
            (3, base.size, base.size),
            given.batch_size,
            is_training=training,
            mean=base.mean,
            std=base.std,
            num_workers=given.workers,
            persistent_workers=given.workers > 0,
            pin_memory=given.cuda,
            use_prefetcher=given.cuda,
            device=torch.device(given.device),
            **how,
        )
        return batches, len(images.reader.class_to_idx)

    train, classes = loader("train", True, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), color_jitter=0.2)
    return train, loader(given.split, False)[0], classes


def main() -> None:
    parser = arguments("A plain loop for a GPU.")
    parser.add_argument("--level", choices=("all", "stages:2"), default="all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--timm", action="store_true")
    given = parser.parse_args()
    given.cuda = torch.cuda.is_available()
    given.device = "cuda" if given.cuda else "cpu"
    torch.manual_seed(0)
    base = load_base(given.base)
    base = base._replace(size=given.size or base.size)
    train, val, classes = (timm_batches if given.timm else torchvision_batches)(given, base)
    network = timm_network(given.base, base, classes) if given.timm else base.network
    network.set_submodule("fc", nn.Linear(network.get_submodule("fc").in_features, classes))
    network.to(given.device, memory_format=torch.channels_last)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(given.level == "all" or name.startswith(STAGES))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs * len(train))
    autocast = torch.autocast(given.device, torch.bfloat16, enabled=given.cuda)

    def there(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(given.device, memory_format=torch.channels_last, non_blocking=True)
        return images, labels.to(given.device, non_blocking=True)

    seconds = []
    for _ in range(given.epochs):
        began = time.perf_counter()
        network.train()
        trained_on = 0
        for batch in train:
            images, labels = there(*batch)
            trained_on += len(labels)
            optimizer.zero_grad()
            with autocast:
                loss = F.cross_entropy(network(images), labels, label_smoothing=SMOOTHING)
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        right, seen = torch.zeros((), device=given.device), 0
        with torch.inference_mode(), autocast:
            for batch in val:
                images, labels = there(*batch)
                right += (network(images).argmax(1) == labels).sum()
                seen += len(labels)
        top1 = float(right) / seen
        seconds.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "images_an_epoch": trained_on,
                "epochs": seconds,
                given.split: {"top1": top1, "n": seen},
                "device_bytes": torch.cuda.max_memory_allocated() if given.cuda else None,
                "process_bytes": most_memory(),
            }
        )
    )


def timm_network(file: object, base: Base, classes: int) -> nn.Module:
    """timm's network of that name, with the same weights: its ResNets have torchvision's tensor names."""
    import timm
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        name = opened.metadata()["architecture"]
    network = timm.create_model(name)
    network.load_state_dict(base.network.state_dict())
    return network


if __name__ == "__main__":
    main()
