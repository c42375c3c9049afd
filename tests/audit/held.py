"""Images in memory, as a source that a dataset reads."""

import numpy as np


class Held:
    """Images in memory, told apart from those of any other by their stamps."""

    def __init__(self, contents: list[bytes | np.ndarray]) -> None:
        self.contents = contents

    def __len__(self) -> int:
        return len(self.contents)

    def name(self, row: int) -> str:
        return f"{row}"

    key = name

    def stamp(self, row: int) -> str:
        return f"{id(self)} {row}"

    def read(self, row: int) -> bytes | np.ndarray:
        return self.contents[row]
