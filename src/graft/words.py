"""How messages count: "1 image", "2 images", "1,024 classes"."""


def counted(number: int, one: str, plural: str | None = None) -> str:
    """The number, with commas between thousands, and the noun that agrees with it.

    The plural is `one` with an s unless given. Either may carry its verb, so that both agree:
    `counted(1, "image is", "images are")` is `"1 image is"`.
    """
    return f"{number:,} {one if number == 1 else plural or f'{one}s'}"
