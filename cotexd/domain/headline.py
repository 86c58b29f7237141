"""One line about an event that a person is glad to read, for every event type that reaches a repository's hook.

The first four forms are fixed by the desktop app's contract: "1 commit pushed to main", "Pull request opened: …",
"Issue closed: …", and, where a payload gives nothing better, "<event> <action>" or "<event>".
Source: GitHub's "Webhook events and payloads".
"""

from collections.abc import Callable

from cotexd.domain.payload import flag, items, number, text

MAX_LENGTH = 300
"""characters"""

Document = dict[str, object]
_Writer = Callable[[Document], str]


def of(kind: str, document: Document, commits: int) -> str:
    """The headline of an event of type `kind`; never empty."""
    writer = _WRITERS.get(kind)
    line = _push(document, commits) if kind == "push" else writer(document) if writer else ""
    line = " ".join(line.split()) or _plain(kind, document)
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 1] + "…"


def subject_of(kind: str) -> str:
    """The key of a payload that holds what the event is about, "" where there is none."""
    return _SUBJECTS.get(kind, "")


def _plain(kind: str, document: Document) -> str:
    return f"{kind} {text(document, 'action')}".rstrip()


def _push(document: Document, commits: int) -> str:
    ref = text(document, "ref")
    what, name = "Branch", ref.removeprefix("refs/heads/")
    if ref.startswith("refs/tags/"):
        what, name = "Tag", ref.removeprefix("refs/tags/")
    if not name:
        return ""
    if flag(document, "deleted"):
        return f"{what} {name} deleted"
    if what == "Tag":
        return f"Tag {name} pushed"
    if commits == 0 and flag(document, "created"):
        return f"Branch {name} created"
    if commits == 0 and flag(document, "forced"):
        return f"Branch {name} force-pushed"
    return f"{commits} commit{'' if commits == 1 else 's'} pushed to {name}"


def _verb(document: Document) -> str:
    return text(document, "action").replace("_", " ")


def _titled(noun: str, *path: str) -> _Writer:
    """<Noun> <action>: <title at path>"""

    def write(document: Document) -> str:
        title = text(document, *path) or number(document, *path)
        verb = _verb(document)
        return f"{noun} {verb}: {title}" if title and verb else ""

    return write


def _of(noun: str) -> _Writer:
    """<Noun> <action>, for what has no title of its own."""
    return lambda document: f"{noun} {verb}" if (verb := _verb(document)) else ""


def _comment(noun: str, *path: str) -> _Writer:
    """<who> commented on <noun>: <title>, or that the comment was edited or deleted."""

    def write(document: Document) -> str:
        title, who, verb = text(document, *path), text(document, "sender", "login"), _verb(document)
        if not title:
            return ""
        if verb == "created" and who:
            return f"{who} commented on {noun}: {title}"
        return f"Comment {verb or 'made'} on {noun}: {title}"

    return write


def _run(noun: str, key: str) -> _Writer:
    """A check or a workflow: <Noun> <conclusion or status>: <name> on <branch>"""

    def write(document: Document) -> str:
        name = (
            text(document, key, "name")
            or text(document, key, "app", "name")
            or text(document, key, "display_title")
            or text(document, "workflow", "name")
        )
        state = text(document, key, "conclusion") or text(document, key, "status") or text(document, "action")
        branch = text(document, key, "head_branch") or text(document, key, "check_suite", "head_branch")
        where = f" on {branch}" if branch else ""
        state = {"success": "succeeded", "failure": "failed"}.get(state, state.replace("_", " "))
        return f"{noun} {state}: {name}{where}" if name and state else ""

    return write


def _ref(verb: str) -> _Writer:
    def write(document: Document) -> str:
        kind, name = text(document, "ref_type"), text(document, "ref")
        return f"{kind.capitalize()} {name} {verb}" if kind and name else ""

    return write


def _who(phrase: str) -> _Writer:
    return lambda document: f"{who} {phrase}" if (who := text(document, "sender", "login")) else ""


def _commit_comment(document: Document) -> str:
    sha, who = text(document, "comment", "commit_id")[:7], text(document, "sender", "login")
    return f"{who} commented on commit {sha}" if sha and who else ""


def _deployment(document: Document) -> str:
    where, ref = text(document, "deployment", "environment"), text(document, "deployment", "ref")
    return f"Deployment of {ref} to {where} {_verb(document) or 'created'}" if where and ref else ""


def _deployment_status(document: Document) -> str:
    where, state = text(document, "deployment", "environment"), text(document, "deployment_status", "state")
    state = {"success": "succeeded", "failure": "failed"}.get(state, state.replace("_", " "))
    return f"Deployment to {where} {state}" if where and state else ""


def _fork(document: Document) -> str:
    name = text(document, "forkee", "full_name")
    return f"Forked to {name}" if name else ""


def _gollum(document: Document) -> str:
    pages = items(document, "pages")
    if len(pages) == 1 and text(pages[0], "title"):
        return f"Wiki page {text(pages[0], 'action') or 'edited'}: {text(pages[0], 'title')}"
    return f"{len(pages)} wiki pages edited" if pages else ""


def _member(document: Document) -> str:
    who, verb = text(document, "member", "login"), _verb(document)
    return f"Collaborator {verb}: {who}" if who and verb else ""


def _merge_group(document: Document) -> str:
    ref = text(document, "merge_group", "base_ref").removeprefix("refs/heads/")
    return f"Merge group {_verb(document)} for {ref}" if ref else ""


def _page_build(document: Document) -> str:
    state = text(document, "build", "status")
    return f"Pages build {state}" if state else ""


def _public(_: Document) -> str:
    return "Repository made public"


def _review(document: Document) -> str:
    title, who = text(document, "pull_request", "title"), text(document, "review", "user", "login")
    state = text(document, "review", "state").replace("_", " ")
    if not title or not who:
        return ""
    if _verb(document) == "dismissed":
        return f"Review by {who} dismissed: {title}"
    phrase = {"approved": "approved", "changes requested": "requested changes on"}.get(state, "reviewed")
    return f"{who} {phrase} pull request: {title}"


def _release(document: Document) -> str:
    name = text(document, "release", "name") or text(document, "release", "tag_name")
    verb = _verb(document)
    return f"Release {verb}: {name}" if name and verb else ""


def _alert(noun: str, *paths: tuple[str, ...]) -> _Writer:
    def write(document: Document) -> str:
        title = next((found for path in paths if (found := text(document, *path))), "")
        return f"{noun} {_verb(document)}{': ' if title else ''}{title}"

    return write


def _status(document: Document) -> str:
    context, state = text(document, "context"), text(document, "state")
    return f"{context}: {text(document, 'description') or state}" if context and state else ""


def _repository(document: Document) -> str:
    return f"Repository {verb}" if (verb := _verb(document)) else ""


def _star(document: Document) -> str:
    who, verb = text(document, "sender", "login"), _verb(document)
    return f"{who} {'unstarred' if verb == 'deleted' else 'starred'} the repository" if who else ""


def _workflow_dispatch(document: Document) -> str:
    name = text(document, "workflow").rsplit("/", 1)[-1]
    return f"Workflow started by hand: {name}" if name else ""


def _import(document: Document) -> str:
    state = text(document, "status")
    return f"Repository import: {state}" if state else ""


_PULL_REQUEST = ("pull_request", "title")

_WRITERS: dict[str, _Writer] = {
    "branch_protection_configuration": _of("Branch protection"),
    "branch_protection_rule": _titled("Branch protection rule", "rule", "name"),
    "check_run": _run("Check", "check_run"),
    "check_suite": _run("Checks", "check_suite"),
    "code_scanning_alert": _alert(
        "Code scanning alert", ("alert", "rule", "description"), ("alert", "rule", "name")
    ),
    "commit_comment": _commit_comment,
    "create": _ref("created"),
    "custom_property_values": _of("Custom properties"),
    "delete": _ref("deleted"),
    "dependabot_alert": _alert("Dependabot alert", ("alert", "security_advisory", "summary")),
    "deploy_key": _titled("Deploy key", "key", "title"),
    "deployment": _deployment,
    "deployment_protection_rule": _titled("Deployment protection rule", "environment"),
    "deployment_review": _titled("Deployment review", "workflow_run", "name"),
    "deployment_status": _deployment_status,
    "discussion": _titled("Discussion", "discussion", "title"),
    "discussion_comment": _comment("discussion", "discussion", "title"),
    "fork": _fork,
    "gollum": _gollum,
    "issue_comment": _comment("issue", "issue", "title"),
    "issue_dependencies": _titled("Issue dependency", "blocked_issue", "title"),
    "issues": _titled("Issue", "issue", "title"),
    "label": _titled("Label", "label", "name"),
    "member": _member,
    "merge_group": _merge_group,
    "meta": lambda _: "Webhook deleted at GitHub",
    "milestone": _titled("Milestone", "milestone", "title"),
    "package": _titled("Package", "package", "name"),
    "page_build": _page_build,
    "project": _titled("Project", "project", "name"),
    "project_card": _of("Project card"),
    "project_column": _titled("Project column", "project_column", "name"),
    "public": _public,
    "pull_request": _titled("Pull request", *_PULL_REQUEST),
    "pull_request_review": _review,
    "pull_request_review_comment": _comment("pull request", *_PULL_REQUEST),
    "pull_request_review_thread": _titled("Review thread", *_PULL_REQUEST),
    "registry_package": _titled("Package", "registry_package", "name"),
    "release": _release,
    "repository": _repository,
    "repository_advisory": _titled("Security advisory", "repository_advisory", "summary"),
    "repository_dispatch": _titled("Dispatch", "branch"),
    "repository_import": _import,
    "repository_ruleset": _titled("Ruleset", "repository_ruleset", "name"),
    "repository_vulnerability_alert": _alert("Vulnerability alert", ("alert", "affected_package_name")),
    "secret_scanning_alert": _alert(
        "Secret scanning alert", ("alert", "secret_type_display_name"), ("alert", "secret_type")
    ),
    "secret_scanning_alert_location": _of("Secret scanning alert location"),
    "secret_scanning_scan": _titled("Secret scan", "type"),
    "security_advisory": _titled("Security advisory", "security_advisory", "summary"),
    "security_and_analysis": lambda _: "Security and analysis settings changed",
    "star": _star,
    "status": _status,
    "sub_issues": _titled("Sub-issue", "sub_issue", "title"),
    "team_add": lambda document: f"Team added: {text(document, 'team', 'name')}",
    "watch": _who("starred the repository"),
    "workflow_dispatch": _workflow_dispatch,
    "workflow_job": _run("Job", "workflow_job"),
    "workflow_run": _run("Workflow", "workflow_run"),
}

KINDS = frozenset(_WRITERS)
"""the event types that GitHub sends to a repository's webhook; any other gets a plain headline"""

_SUBJECTS: dict[str, str] = {
    "check_suite": "check_suite",
    "commit_comment": "comment",
    "deployment": "deployment",
    "deployment_status": "deployment_status",
    "discussion": "discussion",
    "discussion_comment": "comment",
    "issue_comment": "comment",
    "issues": "issue",
    "milestone": "milestone",
    "pull_request": "pull_request",
    "pull_request_review_comment": "comment",
    "release": "release",
    "workflow_run": "workflow_run",
}
