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
    "--data": "the data are the argument without a name",
    "--data-dir": "the data are the argument without a name",
    "--device": "a GPU is used if there is one, and CUDA_VISIBLE_DEVICES chooses which",
    "--gpus": "a GPU is used if there is one, and CUDA_VISIBLE_DEVICES chooses which",
    "--nc": "the classes are those of the data",
    "--num-classes": "the classes are those of the data",
    "--num-workers": "images are read by threads, one per core",
    "--val-split": "a missing val is set aside from train",
    "--workers": "images are read by threads, one per core",
}


def in_graft(option: str, own: set[str]) -> str:
    """Return a hint for an option of another tool, given the command's `own` ones; empty if there is none."""
    if (renamed := RENAMED.get(option)) in own:
        return f"here it is {renamed}"
    return NEEDLESS.get(option, "")
