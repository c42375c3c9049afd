"""The parts into which evaluated images are sliced take memory in proportion to the images, whatever the groups."""

import tracemalloc

import numpy as np

from graft.audit.slicing import parts_of
from graft.evaluation.slices import compare_slices, ends_of, why_no_parts


def test_slicing_takes_little_memory_where_nearly_every_image_is_its_own_group_and_folder() -> None:
    count = 20_000
    # One pair of copies gives every other image a group of its own.
    groups = np.arange(count)
    groups[1] = 0
    keys = [f"{number // 2}/{number}.jpg" for number in range(count)]
    right, labels = np.arange(count) % 7 > 0, np.arange(count) % 3
    measures = {"luminance": np.random.default_rng(0).random(count).astype(np.float32)}
    tracemalloc.start()
    try:
        parts = parts_of(measures, keys, labels, groups, {})
        found = compare_slices(right, labels, parts, groups)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {attribute for attribute, _ in parts} == {"brightness"} and len(found) == 4
    # A mask for each of 20,000 groups would be 400 MB.
    assert most < 40e6


def test_a_group_or_folder_of_ten_images_is_a_part_and_one_of_nine_is_none() -> None:
    groups = np.repeat([4, 7, 9], [9, 10, 31])
    keys = [f"{group}/{number}.jpg" for number, group in enumerate(groups.tolist())]
    parts = parts_of({}, keys, np.arange(50) % 2, groups, {})
    assert list(parts) == [("folder", "7"), ("folder", "9"), ("group", "7"), ("group", "9")]
    for name, first, last in (("7", 9, 19), ("9", 19, 50)):
        for attribute in ("folder", "group"):
            np.testing.assert_array_equal(parts[attribute, name], np.arange(first, last))


def test_too_few_images_are_said_to_be_with_how_many_it_takes() -> None:
    assert "there are 37, and at least 38" in why_no_parts(37)
    for count, parts in ((37, 0), (38, 2)):
        assert len(ends_of("size", ("smallest", "largest"), np.arange(count))) == parts
    assert "no slices" in why_no_parts(38)
