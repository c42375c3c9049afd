"""graft lab"""

import json

from calling import graft


def test_the_experiments_are_listed_with_their_claims_and_what_was_recorded(tmp_path):
    graft("lab", "pointwise", "--quick", "--out", tmp_path)
    listed = json.loads(graft("lab", "--json", "--out", tmp_path).stdout)
    by_name = {row["name"]: row for row in listed}
    assert by_name["pointwise"]["claims"] == ["N8"]
    assert by_name["pointwise"]["recorded"]["verdict"] == "held"
    assert "recorded" not in by_name["stacked"]
    assert "pointwise" in graft("lab").stdout


def test_an_experiment_tells_its_claim_what_was_measured_and_whether_it_held(tmp_path):
    result = graft("lab", "pointwise", "--quick", "--out", tmp_path / "new")
    assert result.returncode == 0
    assert "67,584" in result.stdout
    assert "The claim held." in result.stdout
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"pointwise-quick.json", "pointwise-quick.svg"}


def test_as_json_it_is_one_document_and_nothing_is_written(tmp_path):
    value = json.loads(graft("lab", "stacked", "--quick", "--json", cwd=tmp_path).stdout)
    assert value["verdict"] == "held"
    assert {row["verdict"] for row in value["measures"]} == {"held"}
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_run_is_told_in_one_sentence(tmp_path):
    unknown = graft("lab", "pointwis")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "pointwise" in unknown.stderr
    taken = tmp_path / "file"
    taken.write_text("mine")
    refused = graft("lab", "pointwise", "--quick", "--out", taken)
    assert refused.returncode == 2
    assert taken.read_text() == "mine"


def test_what_a_folder_keeps_is_listed_only_if_it_is_what_was_recorded(tmp_path):
    damaged = tmp_path / "frozen-quick.json"
    for content in ("{bad", "[1]", '{"verdict": 3}'):
        damaged.write_text(content)
        refused = graft("lab", "--out", tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "got something else in" in refused.stderr and "frozen-quick.json" in refused.stderr
        assert damaged.read_text() == content
    for missing in (tmp_path / "nosuch", damaged):
        assert graft("lab", "--out", missing).returncode == 2
    beneath = graft("lab", "pointwise", "--quick", "--out", damaged / "sub")
    assert beneath.returncode == 2 and "for --out" in beneath.stderr
