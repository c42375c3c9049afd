"""What a fast.ai course teaches: the pretrained body under fastai's own head, `fine_tune` with `aug_transforms`.

    python benchmarks/peers/fastai_tune.py DATA --base FILE [--size 128] [--split test] [--seed 0] [--epochs 20]

The head trains for one epoch, then all layers for `--epochs`, with fastai's defaults for rates, schedule and head, in
batches of 32. Needs fastai beside torch (`pip install fastai`). Prints `{"val": {"top1", "n"}}`, keyed by the split.
Imports nothing from graft.
"""

import json

import torch
from expert import arguments, load_base
from fastai.vision.all import (
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    FuncSplitter,
    ImageBlock,
    Learner,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    create_head,
    get_image_files,
    params,
    parent_label,
    set_seed,
)
from torch import nn


class Body(nn.Module):
    """The base up to its last maps `(N, C, H, W)`; fastai's head does the pooling."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.base.forward_features if hasattr(self.base, "forward_features") else self.base.features
        return features(x)


def main() -> None:
    parser = arguments("fastai's fine_tune.")
    parser.add_argument("--epochs", type=int, default=20, help="epochs in which all layers train")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    set_seed(given.seed)
    base = load_base(given.base)
    size = given.size or base.size
    body = Body(base.network)
    if hasattr(base.network, "fc"):
        body = nn.Sequential(*list(base.network.children())[:-2])
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=FuncSplitter(lambda path: path.parent.parent.name == given.split),
        item_tfms=Resize(round(size * 256 / 224)),
        batch_tfms=[*aug_transforms(size=size), Normalize.from_stats(base.mean, base.std)],
    )
    loaders = block.dataloaders(given.data, bs=min(32, len(get_image_files(given.data / "train"))), num_workers=0)
    with torch.no_grad():
        channels = body.eval()(torch.zeros(1, 3, size, size)).shape[1]
    network = nn.Sequential(body, create_head(channels, loaders.c))
    learner = Learner(
        loaders,
        network,
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
        # Body and head are two parameter groups: the body is frozen while the head trains first.
        splitter=lambda model: [params(model[0]), params(model[1])],
    )
    with learner.no_bar(), learner.no_logging():
        learner.freeze()
        learner.fine_tune(given.epochs)
        predictions, labels = learner.get_preds()
    top1 = (predictions.argmax(1) == labels).float().mean()
    print(json.dumps({given.split: {"top1": float(top1), "n": len(labels)}}))


if __name__ == "__main__":
    main()
