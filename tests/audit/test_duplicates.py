"""Copies, byte for byte and nearly, are found among real images, and images that are merely alike are not."""

import io
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from held import Held
from PIL import Image, ImageEnhance

from graft.audit import duplicates, looking
from graft.audit.duplicates import LIMITS, exact, near
from graft.audit.looking import Looks, look
from graft.data.dataset import Images
from graft.data.opening import open_dataset
from graft.images.decoding import decode
from graft.progress import Reporter

Change = Callable[[Image.Image], Image.Image]


def looks_of(contents: list[bytes | np.ndarray]) -> Looks:
    return look(Images(Held(contents), np.arange(len(contents)), np.zeros(len(contents), np.int64)))


def joined(one: Looks, other: Looks) -> Looks:
    """As if all images had been looked at in one pass: what is measured of one does not depend on the others."""
    columns = {
        field.name: np.concatenate([getattr(one, field.name), getattr(other, field.name)])
        for field in fields(Looks)
        if field.name not in ("reasons", "overlays")
    }
    return Looks(**columns, reasons={**one.reasons, **{row + len(one): why for row, why in other.reasons.items()}})


def saved(image: Image.Image, quality: int = 95) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def cut(left: float, top: float, right: float, bottom: float) -> Change:
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        edges = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return image.crop(tuple(map(round, edges)))

    return crop


KINDS: dict[str, tuple[Change, int]] = {
    "saved again": (lambda image: image, 60),
    "half the size": (lambda image: image.resize((image.width // 2, image.height // 2)), 95),
    "cropped by 5 %": (cut(0.025, 0.025, 0.025, 0.025), 95),
    "cropped by 5 % a side": (cut(0.05, 0.05, 0.05, 0.05), 95),
    "cropped at one edge": (cut(0.05, 0, 0, 0), 95),
    "brightened": (lambda image: ImageEnhance.Brightness(image).enhance(1.1), 95),
}


@pytest.fixture(scope="module", params=["ants_bees", "pacs_sketch", "cifar10", "mnist"])
def contents(request: pytest.FixtureRequest, shared: Path) -> list[bytes | np.ndarray]:
    images = open_dataset(shared / "datasets" / request.param).splits["train"]
    chosen = np.arange(0, len(images), max(1, len(images) // 240))[:240]
    return [images.read(int(row)) for row in chosen]


@pytest.fixture(scope="module")
def looks(contents: list[bytes | np.ndarray]) -> Looks:
    return looks_of(contents)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_each_kind_are_found_in_each_data_set(
    contents: list[bytes | np.ndarray], looks: Looks, kind: str
) -> None:
    count, copied = len(contents), range(0, len(contents), 4)
    change, quality = KINDS[kind]
    copies = []
    for row in copied:
        data = contents[row]
        pixels = decode(data) if isinstance(data, bytes) else data
        copies.append(saved(change(Image.fromarray(pixels).convert("RGB")), quality))
    pairs = set(map(tuple, near(joined(looks, looks_of(copies))).tolist()))
    expected = {(row, count + number) for number, row in enumerate(copied)}
    assert len(expected & pairs) >= 0.95 * len(expected)
    # An image that was planted twice, or is like another, may come up; next to nothing else does.
    assert len(pairs - expected) <= 2


def test_images_that_are_merely_alike_are_not_found(looks: Looks) -> None:
    assert len(near(looks)) <= 0.01 * len(looks)


def test_equal_contents_are_grouped_and_only_the_first_is_compared(contents: list[bytes | np.ndarray]) -> None:
    some = contents[1:40]
    changed = saved(Image.fromarray(decode(some[3]) if isinstance(some[3], bytes) else some[3]).convert("RGB"), 60)
    looks = looks_of([*some, some[3], some[20], some[3], changed])
    assert [group.tolist() for group in exact(looks)] == [[3, 39, 41], [20, 40]]
    assert near(looks).tolist() == [[3, 42]]


def noise(seed: int) -> np.ndarray:
    """An image of its own, with detail of every size."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(random.integers(0, 256, (side, side), dtype=np.uint8)).resize((64, 64)), float)
        for side in (3, 6, 12)
    ]
    return np.mean(layers, axis=0).astype(np.uint8)


def test_two_images_are_enough() -> None:
    assert near(looks_of([saved(Image.fromarray(noise(1)), quality) for quality in (95, 60)])).tolist() == [[0, 1]]
    assert not len(near(looks_of([noise(1), noise(2)])))
    for few in ([], [noise(1)]):
        assert near(looks_of(few)).shape == (0, 2) and not exact(looks_of(few))


def test_flat_and_unreadable_images_are_compared_with_nothing() -> None:
    contents = [*(np.full((32, 32), level, np.uint8) for level in range(100, 120)), b"no image", b"nor this"]
    looks = looks_of([*contents, noise(1), noise(1)])
    assert not len(near(looks))
    assert [group.tolist() for group in exact(looks)] == [[22, 23]]


def test_an_image_in_other_colours_is_another() -> None:
    tinted = [np.stack([noise(1) // 2 + add for add in colour], axis=2) for colour in ((90, 0, 0), (0, 90, 0))]
    assert not len(near(looks_of(tinted)))
    assert len(near(looks_of([tinted[0], tinted[0] // 16 * 16]))) == 1


def test_a_negative_is_another_image() -> None:
    assert not len(near(looks_of([noise(1), 255 - noise(1)])))


def test_many_copies_of_one_image_hang_together_in_few_pairs() -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    random = np.random.default_rng(0)
    copies = [np.clip(noise(1) + random.integers(-2, 3, (64, 64)), 0, 255).astype(np.uint8) for _ in range(400)]
    pairs = near(looks_of([*copies, *(noise(seed) for seed in range(2, 40))]))
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(438, 438))
    _, group = connected_components(links, directed=False)
    assert np.bincount(group).max() >= 396 and pairs.max() < 400 and len(pairs) < 400 * 20


def test_the_limit_falls_where_images_are_alike_by_chance() -> None:
    random = np.random.default_rng(0)
    copies = random.uniform(0, LIMITS[-1], 300)
    # Pairs by chance, whose number goes with the third power of what remains.
    chance = 2 * LIMITS[0] * random.uniform(0, 1, 20_000) ** (1 / 3)
    assert duplicates.limit_of(np.array([]), 1000) == duplicates.limit_of(copies, 1000) == LIMITS[0]
    limit = duplicates.limit_of(np.concatenate([copies, chance]), 1000)
    assert limit < LIMITS[0] / 2 and (chance <= limit).sum() <= 0.1 * 300


def test_pairs_are_kept_for_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [noise(1), noise(2), saved(Image.fromarray(noise(1)), 60), noise(3)]
    first = near(looks_of(contents), tmp_path)
    assert first.tolist() == [[0, 2]]
    monkeypatch.setattr(duplicates, "_alike", lambda looks, rows: pytest.fail("computed again"))
    assert np.array_equal(near(looks_of(contents), tmp_path), first)
    assert near(looks_of([*contents, contents[0]]), tmp_path).tolist() == [[0, 2]]


def test_damaged_pairs_are_found_anew_and_told(tmp_path: Path) -> None:
    contents = [noise(1), noise(2), saved(Image.fromarray(noise(1)), 60), noise(3)]
    first = near(looks_of(contents), tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(bytes(kept.stat().st_size))
    notes: list[str] = []
    assert np.array_equal(near(looks_of(contents), tmp_path, Reporter(note=notes.append)), first)
    assert len(notes) == 1 and f"{kept} was damaged" in notes[0]


def test_shards_change_nothing_but_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten images that are alike of each of six, so that each has more candidates than are kept.
    random = np.random.default_rng(0)
    grounds = random.normal(size=(6, 12, 12))
    small = [grounds[number % 6] + 0.1 * random.normal(size=(12, 12)) for number in range(60)]
    images = [np.kron(128 + 40 * each, np.ones((8, 8))).clip(0, 255).astype(np.uint8) for each in small]
    looks = looks_of([*images, *(255 - (255 - image) // 2 for image in images[:10])])
    thumbnails = duplicates._Thumbnails(looks.thumbnail, np.arange(len(looks)))
    whole = duplicates._candidates(thumbnails)
    monkeypatch.setattr(duplicates, "_SHARD", 7)
    in_shards = duplicates._candidates(thumbnails)
    assert len(whole.whole) > 100
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(getattr(in_shards, name), column)


def test_a_large_table_is_filled_in_a_file_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: list[bytes | np.ndarray] = [np.full((9, 9), value, np.uint8) for value in range(0, 250, 25)]
    images = Images(Held(contents), np.arange(10), np.zeros(10, np.int64))
    expected = look(images)
    monkeypatch.setattr(looking, "IN_MEMORY_BYTES", 0)
    for _ in range(2):
        found = look(images, tmp_path)
        for name in ("digest", "thumbnail", "bright", "width"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert len(list(tmp_path.iterdir())) == 1
