"""GitHub's webhooks and their REST API, faked: stateful, over real HTTP, with delivery logs, scopes and limits.

with FakeGitHub() as github:
github.repository("octo/hello")
github.route("https://cotex.example.com", server.url)
hook_id = github.hook("octo/hello", "https://cotex.example.com/api/…", "secret")
guid = github.happen("octo/hello", "push", {...})      delivers for real, and logs the attempt
"""

from .fake import FakeGitHub
from .state import Attempt, Hook, Repository

__all__ = ["Attempt", "FakeGitHub", "Hook", "Repository"]
