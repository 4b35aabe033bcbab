"""What a user says: policies with names and noise, and tables of real results."""

from __future__ import annotations

from pathlib import Path

import pytest

from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.contestants import PolicyText, parse_policies
from scd_wm.policy_evaluation.real_table import read_real_table


def said(name: str, policy: str, noise: float = 0.0) -> PolicyText:
    return PolicyText(name=name, policy=policy, noise=noise)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random", said("random", "random")),
        ("runs/bc.pth", said("bc", "runs/bc.pth")),
        ("bc.pth@noise=0.3", said("bc@noise=0.3", "bc.pth", 0.3)),
        ("worse=bc.pth@noise=.5", said("worse", "bc.pth", 0.5)),
        ("my.module:function", said("my.module:function", "my.module:function")),
        ("mine=my.module:function", said("mine", "my.module:function")),
        ("the best=bc.pth@noise=0", said("the best", "bc.pth")),
    ],
)
def test_policies_are_called_by_what_is_said(text: str, expected: PolicyText) -> None:
    assert parse_policies([text, "other=zero"])[0] == expected


def test_a_path_with_such_characters_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lr=3.pth", "a@b.pth"):
        Path(name).touch()
        assert parse_policies([name, "zero"])[0] == said(name[:-4], name)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["zero"], r"a ranking is of 2 policies or more, got .'zero'."),
        (["zero", "random", "zero"], r"several policies are called .'zero'.; put a name in front"),
        (["a/bc.pth", "b/bc.pth"], r"several policies are called .'bc'."),
        (["zero", "bc.pth@noise=much"], "noise must be a number of 0 or more, got 'much'"),
        (["zero", "bc.pth@noise=-1"], "noise must be a number of 0 or more, got '-1'"),
        (["zero", "bc.pth@noise=inf"], "noise must be a number of 0 or more, got 'inf'"),
        (["zero", "bc.pth@sigma=1"], "after @ comes noise=X, such as bc.pth@noise=0.3"),
        (["zero", "best=expert@noise=0.1"], "the policy 'expert' reads the simulator"),
    ],
)
def test_what_is_no_list_of_policies_says_why(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_policies(texts)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_table_is_read_by_policy_and_start(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "comment,policy,start,success,return\n,a,7,1,2.5\n,b,7,FALSE,\n,a,9,0,1\n,b,9, true ,3\n"
        ",c,8,perhaps,\n",  # of a policy that nobody asked for
    )
    table = read_real_table(path, ["a", "b"])
    assert table.starts == ("7", "9")
    first, second = table.episodes("b", ["9", "7"])
    assert (first.success, first.total_reward, first.world) == (True, 3.0, "real")
    assert (second.success, second.total_reward) == (False, None)


def test_of_an_earlier_evaluation_the_real_episodes_count(tmp_path: Path) -> None:
    rows = "policy,seed,world,success\na,1,real,1\na,1,world_model,0\nb,1,real,0\nb,1,copy_last,1\n"
    table = read_real_table(write(tmp_path / "t.csv", rows), ["a", "b"])
    assert [table.episodes(p, ["1"])[0].success for p in ("a", "b")] == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy,success\n", r"lacks .'seed'.; it has .'policy', 'success'., wanted are policy"),
        ("policy,start,won\n", r"lacks .'success'."),
        ("", r"lacks .'policy', 'seed', 'success'."),
        ("policy,start,success\n", "has no row of 'a' from any start"),
        ("policy,start,success\na,1,1\n", "no row of 'b' from any start; .* policies are .'a'"),
        ("policy,start,success\na,1,1\na,2,1\nb,1,1\n", "no row of 'b' from start '2'"),
        ("policy,start,success\na,1,1\na,1,0\n", "has 'a' from start '1' twice"),
        ("policy,start,success\na,1,2\n", "row 2: success must be 0 or 1, got '2'"),
        ("policy,start,success\na,1\n", "row 2: success must be 0 or 1, got ''"),
        ("policy,start,success,return\na,1,1,lots\n", "row 2: return must be a .*, got 'lots'"),
        ("policy,start,success,return\na,1,1,inf\n", "row 2: return must be a .*, got 'inf'"),
    ],
)
def test_what_is_no_table_says_why(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_real_table(write(tmp_path / "t.csv", text), ["a", "b"])


def test_a_file_that_is_no_text_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"policy,start,success\na,1,\x80")
    with pytest.raises(ValueError, match=r"table .*csv is no CSV file: .* byte 0x80"):
        read_real_table(tmp_path / "t.csv", ["a"])


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no table"):
        read_real_table(tmp_path / "none.csv", ["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 1}, "episodes must be 2 or more, got 1"),
        ({"at_once": 2}, "at_once must be 3 or more, got 2"),
        ({"max_steps": 0}, "max_steps must be 1 or more, got 0"),
        ({"off_data": 1.5}, r"off_data must be in \[0, 1\], got 1.5"),
        ({"data": Path("d")}, "data is for the starts of a table"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyEvaluationConfig(**changes)
