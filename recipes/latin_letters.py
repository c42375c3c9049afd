"""Trains LeNet-5 on typed Latin letters: the base in graft's package, src/graft/bundled/latin_letters.safetensors.

    sh recipes/install_fonts.sh
    python recipes/latin_letters.py

Outcome: top-1 0.9835 on 3,268 images in 19 fonts of held-out families (seeds 1 and 2: 0.9823, 0.9832) and 0.9956 on
2,064 images in the twelve DejaVu fonts (0.9952, 0.9990). It takes 250 s, 35 to 50 of them for drawing, on one of two
x86 cores shared with other programs; torch 2.15, Pillow 13.0 with FreeType 2.14. There, the same seed gives the same
tensors, bit for bit. The file has 130,992 bytes.

Its purpose is transfer to similar images. On 33 Cyrillic capitals, with ten training and twenty test images of each, in
DejaVu fonts and over three seeds (mean, lowest to highest; AdamW, batches of 32, cosine):

    scratch, 60 epochs at 3e-3                      0.755  0.752 to 0.758      (150 epochs: 0.769  0.765 to 0.773)
    head, logistic regression on frozen features    0.905  0.895 to 0.917
    all, from that head, 30 epochs at 1e-3          0.924  0.918 to 0.929

ResNet-20 at 16 px transfers better (head 0.931, all 0.972), but from scratch it reaches 0.886 (0.864 to 0.914) in 60
epochs, which take three times as long as LeNet-5's; MobileNet at a quarter of its width is worse than LeNet-5 at every
level.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from graft.data.readers.folder import files_below
from graft.images.letters import LATIN, SIDE, dejavu_fonts, render_letters
from graft.models.catalog import build
from graft.models.network import Config, Network

BUNDLED = Path(__file__).resolve().parents[1] / "src" / "graft" / "bundled" / "latin_letters.safetensors"

ARCHITECTURE = "lenet5"
INPUT_SIZE = 28  # px: the centre of an image of 32 px, a crop fraction of 0.875
MEAN, STD = 0.5, 0.5

IMAGES_PER_FONT = 20  # of each class
EPOCHS = 20
BATCH = 128
LEARNING_RATE = 2e-3  # AdamW, per batch of 128, linear warm-up over the first epoch, then a cosine down to zero
WEIGHT_DECAY = 0.05

DEBIAN_FOLDERS = [Path("/usr/share/fonts"), Path("/usr/share/texmf/fonts")]
FOUR = "Regular Bold Italic BoldItalic"
TEX_GYRE = "regular bold italic bolditalic"
# File names and the styles to insert in them; for balance, the largest families have only a few styles.
TRAINING_FONTS = (
    ("Arimo-{}.ttf", FOUR),
    ("Cousine-{}.ttf", FOUR),
    ("Tinos-{}.ttf", FOUR),
    ("Roboto-{}.ttf", f"{FOUR} Light"),
    ("RobotoCondensed-{}.ttf", f"{FOUR} Light"),
    ("NotoSans-{}.ttf", FOUR),
    ("NotoSerif-{}.ttf", FOUR),
    ("NotoSerifDisplay-{}.ttf", FOUR),
    ("OpenSans-{}.ttf", f"{FOUR} Light"),
    ("Lato-{}.ttf", f"{FOUR} Light"),
    ("Inter-{}.otf", f"{FOUR} Light"),
    ("Cabin-{}.otf", FOUR),
    ("Quicksand-{}.ttf", "Light Regular Bold"),
    ("JetBrainsMono-{}.ttf", f"{FOUR} Light"),
    ("LinLibertine_{}.otf", "R RB RI RBI"),
    ("LinBiolinum_{}.otf", "R RB RI"),
    ("EBGaramond12-{}.otf", "Regular Bold Italic"),
    ("GFSDidot{}.otf", " Bold Italic BoldItalic"),
    ("texgyreadventor-{}.otf", TEX_GYRE),
    ("texgyrebonum-{}.otf", TEX_GYRE),
    ("texgyrecursor-{}.otf", TEX_GYRE),
    ("texgyrepagella-{}.otf", TEX_GYRE),
    ("texgyreschola-{}.otf", TEX_GYRE),
    ("texgyrechorus-{}.otf", "mediumitalic"),
)
# Families with no style in the training set.
HELD_OUT_FONTS = (
    ("Caladea-{}.ttf", FOUR),
    ("Cantarell-{}.otf", "Light Regular Bold ExtraBold"),
    ("Inconsolata{}.otf", ""),
    ("PTS{}F.ttf", "55 56 75 76"),
    ("PTF{}F.ttf", "55 56 75 76"),
    ("PTM{}F.ttf", "55 75"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", type=Path, nargs="+", default=DEBIAN_FOLDERS, help="folders that hold the fonts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    arguments = parser.parse_args()

    start = time.perf_counter()
    training_fonts, held_out_fonts = (find_fonts(arguments.fonts, rows) for rows in (TRAINING_FONTS, HELD_OUT_FONTS))
    # Image seeds differ from each other and from the small seeds of the demo and the tests.
    image_seed = 1_000_000 + 10 * arguments.seed
    training = images(training_fonts, IMAGES_PER_FONT, image_seed)
    held_out = images(held_out_fonts, 4, image_seed + 1)
    dejavu = images(dejavu_fonts(), 4, image_seed + 2)
    print(
        f"{len(training[1]):,} images in {len(training_fonts)} fonts, {len(held_out[1]):,} in {len(held_out_fonts)} "
        f"held-out fonts: {time.perf_counter() - start:.0f} s",
        flush=True,
    )

    # One thread fixes the order of sums on every machine; a network this small gains nothing from two.
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    network = build(Config(ARCHITECTURE, classes=len(LATIN), channels=1))
    train(network, *training)
    tensors = rounded(network)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    score, score_dejavu = accuracy(network, *held_out), accuracy(network, *dejavu)
    print(f"held-out fonts {score:.4f} of {len(held_out[1]):,}, DejaVu {score_dejavu:.4f} of {len(dejavu[1]):,}")
    save_file(tensors, arguments.out, metadata(score, len(held_out[1]), len(training_fonts), len(held_out_fonts)))
    print(f"{arguments.out.name}: {arguments.out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s in all")


def find_fonts(folders: list[Path], rows: tuple[tuple[str, str], ...]) -> list[Path]:
    """The files that `rows` name, anywhere below `folders`, in the order of the rows."""
    files = {path.name: path for folder in folders if folder.is_dir() for path in files_below(folder)}
    names = [pattern.format(style) for pattern, styles in rows for style in styles.split(" ")]
    missing = [name for name in names if name not in files]
    if missing:
        where = " and ".join(map(str, folders))
        raise SystemExit(
            f"expected {len(names)} fonts in {where}, got none named {', '.join(missing)}: run recipes/install_fonts.sh"
        )
    return [files[name] for name in names]


def images(fonts: list[Path], per_font: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `per_font` images of each class in each font, normalised, float (N, 1, 28, 28), with labels, int (N,)."""
    pixels, labels = render_letters(LATIN, fonts, per_font * len(fonts), seed)
    edge = (SIDE - INPUT_SIZE) // 2
    centre = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, :, edge:-edge, edge:-edge]  # (N, H, W, 1) -> (N, 1, H, W)
    return (centre.float() / 255 - MEAN) / STD, torch.from_numpy(labels)


def train(network: Network, images: Tensor, labels: Tensor) -> None:
    """Train with AdamW on cross-entropy for EPOCHS epochs; the network changes in place and ends in evaluation mode."""
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(images) // BATCH
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, (EPOCHS - 1) * steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [steps])
    network.train()
    for epoch in range(1, EPOCHS + 1):
        order, total = torch.randperm(len(images)), 0.0
        for batch in order[: steps * BATCH].split(BATCH):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / steps:.4f}", flush=True)
    network.eval()


@torch.no_grad()
def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    predicted = torch.cat([network(batch).argmax(dim=1) for batch in images.split(1024)])
    return (predicted == labels).double().mean().item()


def rounded(network: Network) -> dict[str, Tensor]:
    """Round the weights as they are stored: float16, but float32 for one-dimensional tensors."""
    return {
        name: tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()
        for name, tensor in network.state_dict().items()
    }


def metadata(score: float, n: int, training_fonts: int, held_out_fonts: int) -> dict[str, str]:
    return {
        "architecture": ARCHITECTURE,
        "classes": json.dumps(LATIN),
        "channels": "1",
        "padding": "torch",
        "bn_eps": "1e-5",
        "input_size": str(INPUT_SIZE),
        "mean": str(MEAN),
        "std": str(STD),
        "crop_fraction": str(INPUT_SIZE / SIDE),
        "resize_mode": "crop",
        "source_dataset": f"typed Latin letters drawn by graft.images.letters in {training_fonts} fonts, not DejaVu",
        "licence": "Apache-2.0",
        "score": f"top-1 {score:.4f} on {n:,} images in {held_out_fonts} fonts of held-out families",
        "recipe": "recipes/latin_letters.py",
    }


if __name__ == "__main__":
    main()
