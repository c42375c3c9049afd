"""What other tools call options, and what to use in graft."""

# Options of timm, Ultralytics, fastai, Keras and torchvision's scripts, and graft's option for the same.
RENAMED = {
    "--amp": "--precision",
    "--aug": "--augment",
    "--backbone": "--base",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--conf": "--error-budget",
    "--fp16": "--precision",
    "--freeze": "--level",
    "--half": "--precision",
    "--img-size": "--image-size",
    "--imgsz": "--image-size",
    "--learning-rate": "--lr",
    "--lr0": "--lr",
    "--model": "--base",
    "--opt": "--optimizer",
    "--output": "--out",
    "--output-dir": "--out",
    "--pretrained": "--base",
    "--project": "--out",
    "--save-dir": "--out",
    "--sched": "--schedule",
    "--scheduler": "--schedule",
    "--smoothing": "--label-smoothing",
    "--threshold": "--error-budget",
    "--topk": "--top",
    "--wd": "--weight-decay",
    "--weights": "--base",
}
# Options that graft does not need.
NEEDLESS = {
    "--data": "the data are a positional argument",
    "--data-dir": "the data are a positional argument",
    "--device": "a GPU is used if there is one, and CUDA_VISIBLE_DEVICES chooses which",
    "--gpus": "a GPU is used if there is one, and CUDA_VISIBLE_DEVICES chooses which",
    "--nc": "the classes are those of the data",
    "--num-classes": "the classes are those of the data",
    "--num-workers": "images are read by threads, one per core",
    "--val-split": "a missing val is set aside from train",
    "--workers": "images are read by threads, one per core",
}


# What to say to more places than a command takes.
ONE_PLACE = {
    "audit": "it takes only the images: give images of other splits with --val and --test",
    "compare": "it takes only images and trains on them: `graft report A B` compares two runs, and `graft evaluate A "
    "B DATA` measures both on the same images",
    "train": "it takes only the images: give images of other splits with --val and --test",
}
RESUMED = (
    "--resume takes only the run: `graft train --resume RUN`; if the data have moved, `graft train DATA --resume "
    "--out RUN`"
)


def for_places(command: str, resume: bool) -> str:
    """Return what to do where a command was given more places than it takes; empty if there is nothing to say."""
    return RESUMED if command == "train" and resume else ONE_PLACE.get(command, "")


def in_graft(option: str, own: set[str]) -> str:
    """Return a hint for an option of another tool, given the command's `own` ones; empty if there is none."""
    if (renamed := RENAMED.get(option)) in own:
        return f"here it is {renamed}"
    return NEEDLESS.get(option, "")
