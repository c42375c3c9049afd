"""AlexNet on two devices, as it was trained in 2012: each has half of the maps, and they meet in a few layers only.

    torchrun --nproc-per-node 2 recipes/alexnet_two_towers.py [--images N] [--steps N]

`graft lab towers` does the same in two processes that it starts itself. Here torchrun starts them, on one machine or
two. Where every process has a GPU its tower is there, and they meet over NCCL; otherwise over gloo. The tower is in
`graft.lab.towers`.

Outcome, on processors: logits and gradients of both towers are those of the grouped network on one device to 2.4e-6 of
the largest of each tensor. Each process has half of the 56.9 million weights, and sends 0.17 MiB an image on the way
forwards, half of it before conv3.
"""

import argparse
import os

import torch
from torch import distributed

from graft.lab.towers import TOLERANCE, TOWERS, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    given = parser.parse_args()
    if os.environ.get("WORLD_SIZE") != str(TOWERS):
        parser.error(f"expected {TOWERS} processes, got {os.environ.get('WORLD_SIZE', 'one')}: start it by torchrun")
    gpus = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = f"cuda:{os.environ['LOCAL_RANK']}" if gpus else "cpu"
    if gpus:
        torch.cuda.set_device(device)
        # With TF32, whose mantissa has ten bits, differences would be a thousand times the tolerance.
        torch.backends.cudnn.allow_tf32 = False
    distributed.init_process_group("nccl" if gpus else "gloo")
    found = compare(given.images, given.steps, seed=0, device=device)
    furthest = max(found.apart.values())
    print(
        f"tower {distributed.get_rank()} on {device}: logits and gradients differ by {furthest:.1e} of the largest; "
        f"{found.share:.0%} of the weights, {sum(found.sent.values()) / 2**20:.2f} MiB an image sent forwards"
    )
    distributed.destroy_process_group()
    if furthest > TOLERANCE:
        raise SystemExit(f"expected a difference of {TOLERANCE:g} at most, got {furthest:.1e}: a tower is wrong")


if __name__ == "__main__":
    main()
