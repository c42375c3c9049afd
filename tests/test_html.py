"""Text and tables as HTML, safe whatever they say."""

import os

from graft.html import escaped, table


def test_text_cannot_end_an_element_or_an_attribute_and_is_valid_utf8() -> None:
    assert escaped('<b a="1">&\'') == "&lt;b a=&quot;1&quot;&gt;&amp;&#x27;"
    assert escaped(os.fsdecode(b"caf\xc3\xa9 \xff")).encode() == b"caf\xc3\xa9 \\xff"


def test_a_table_has_a_row_for_the_head_and_one_for_each_row_with_every_cell_escaped() -> None:
    made = table(("stage", "shift"), [("<stem>", 0.5), ("a", "&")])
    assert made.count("<tr>") == 3 and made.count("</tr>") == 3
    assert "&lt;stem&gt;" in made and "&amp;</td>" in made and "<stem>" not in made
    assert ">shift</th>" in made and ">0.5</td>" in made
