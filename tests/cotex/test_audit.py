import getpass

from cotexd.operations.repositories import Tracked


def actions(cotex, *flags: str) -> list[str]:
    return [each["action"] for each in cotex("audit", "list", *flags, "--json").json]


def test_what_a_command_changes_is_listed_with_who_and_what_the_newest_first(cotex, database: str):
    cotex("user", "add", "ada")
    cotex("repo", "add", "octo/hello", SUDO_USER="grace")
    newest, first = cotex("audit", "list", "--json").json
    assert (first["action"], first["target"], first["via"]) == ("user.add", "ada", "cli")
    assert first["actor"] == getpass.getuser()
    assert (newest["action"], newest["target"], newest["actor"]) == ("repo.add", "octo/hello", "grace")
    assert newest["detail"]["user"] == "ada"


def test_looking_and_what_is_refused_leave_no_trace(cotex, octo: Tracked):
    before = actions(cotex)
    for line in ("user list", "user add ada", "user show ada", "tier set ada gold", "repo remove octo/hello"):
        cotex(*line.split())
    assert actions(cotex) == before


def test_it_is_narrowed_by_action_by_group_by_who_and_by_number(cotex, octo: Tracked):
    cotex("repo", "pause", "octo/hello")
    cotex("user", "disable", "ada", SUDO_USER="grace")
    assert actions(cotex, "--action", "repo.pause") == ["repo.pause"]
    assert actions(cotex, "--action", "repo.") == ["repo.pause", "repo.add"]
    assert actions(cotex, "--action", "repo") == []
    assert actions(cotex, "--actor", "grace") == ["user.disable"]
    assert actions(cotex, "--limit", "1") == ["user.disable"]


def test_piped_it_is_a_line_an_entry(cotex, octo: Tracked):
    lines = cotex("audit", "list").out.splitlines()
    assert len(lines) == len(actions(cotex))
    assert {len(line.split("\t")) for line in lines} == {6}
