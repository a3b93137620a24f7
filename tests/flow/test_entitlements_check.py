"""`broker entitlements check` beside a running demo: how long each session policy would be, and what to shorten."""

from __future__ import annotations

import re
from pathlib import Path

from tests.flow.demo_process import Demo
from tests.flow.test_commands import broker

HOME = '{ bucket = "corp-home", prefix = "{username}/", access = "read-write" },'


def check(demo: Demo, file: Path, *options: str) -> tuple[int, str, str]:
    ended = broker("entitlements", "check", str(file), "--settings", str(demo.settings), *options)
    return ended.returncode, ended.stdout, ended.stderr


def with_places(demo: Demo, file: Path, count: int) -> Path:
    """The demo's file, with so many more places in the home entitlement."""
    text = (demo.folder / "entitlements.toml").read_text(encoding="utf-8")
    more = "".join(f"\n  {HOME}".replace("corp-home", f"corp-{number:02d}") for number in range(count))
    assert text.count(HOME) == 1
    file.write_text(text.replace(HOME, HOME + more), encoding="utf-8")
    return file


def test_the_size_of_every_policy_is_said_with_the_longest_values_of_the_directory(demo: Demo) -> None:
    longest = max((str(one["username"]) for one in demo.described["people"]), key=len)
    code, output, errors = check(demo, demo.folder / "entitlements.toml")
    assert (code, errors) == (0, "")
    people = re.search(r"looked at (\d+) people in the directory", output)
    assert people is not None
    assert int(people[1]) >= len(demo.described["people"])
    sizes = dict(re.findall(r"^  (\S+): ([\d,]+) of 2,048 characters", output, re.MULTILINE))
    assert set(sizes) >= {"home", "falcon", "finance"}
    assert "ops" not in sizes  # the whole role has no session policy
    length = re.search(r"home: [\d,]+ of 2,048 characters with the longest username \((\d+) characters\)", output)
    assert length is not None
    assert int(length[1]) >= len(longest)


def test_a_policy_that_would_be_too_long_for_somebody_fails_and_names_what_to_shorten(
    demo: Demo, tmp_path: Path
) -> None:
    code, output, errors = check(demo, with_places(demo, tmp_path / "long.toml", 18))
    assert code == 1
    assert re.search(r"^  home: [23],\d{3} of 2,048 characters", output, re.MULTILINE)
    (line,) = errors.splitlines()
    assert line.startswith('broker: entitlement "home", s3: with the longest username')
    assert "give the entitlement fewer or shorter prefixes; the longest are" in line
    assert re.search(r"corp-00/\S+ \(\d+ characters\)", line)


def test_people_whose_session_tags_aws_would_not_take_are_counted_and_nobodys_value_is_shown(
    demo: Demo, tmp_path: Path
) -> None:
    file = tmp_path / "tags.toml"
    text = (demo.folder / "entitlements.toml").read_text(encoding="utf-8")
    tags = text.index('tags = { Department = "{department}" }')
    file.write_text(text[:tags] + text[tags:].replace("{department}", "x" * 256 + "{username}", 1), encoding="utf-8")
    code, output, errors = check(demo, file)
    people = re.search(r"looked at (\d+) people in the directory", output)
    assert people is not None
    assert (code, errors.count("\n")) == (0, 1)
    assert errors.rstrip() == (
        f'warning: entitlement "home", tags.Department: {people[1]} of {people[1]} people in the directory would be'
        " refused for their username: AWS takes at most 256 letters, digits, spaces and _.:/=+-@ in a tag value"
    )
    assert check(demo, file, "--offline")[::2] == (0, "")


def test_without_the_directory_a_length_is_assumed_and_one_that_would_be_too_long_is_a_warning(
    demo: Demo, tmp_path: Path
) -> None:
    code, output, errors = check(demo, with_places(demo, tmp_path / "offline.toml", 14), "--offline")
    assert code == 0
    assert "assuming values of 64 characters, since the directory was not asked" in output
    assert errors.startswith('warning: entitlement "home", s3: with the longest username (64 characters)')


def test_faults_of_the_text_and_groups_that_are_not_there_are_reported_together(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "faulty.toml"
    text = (demo.folder / "entitlements.toml").read_text(encoding="utf-8")
    file.write_text(
        text.replace('prefix = "handbook/"', 'prefix = "handbook"').replace('groups = ["Finance"]', 'groups = ["Fin"]'),
        encoding="utf-8",
    )
    code, _, errors = check(demo, file)
    assert code == 1
    assert [line.split(": ")[1] for line in errors.splitlines()] == [
        'entitlement "home", s3[1].prefix',
        'entitlement "finance", groups[0]',
    ]
