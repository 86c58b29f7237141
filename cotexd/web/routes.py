"""The table of every route: what it is for, whom it lets in, what it takes and what it answers.

/openapi.json is made of it; the handlers lie in the module that each part names. A route that is mounted and is not
here, or answers what is not here, fails a test.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from cotexd.domain import scope
from cotexd.domain.cursor import CursorText
from cotexd.errors import (
    BadSignature,
    Conflict,
    Failed,
    InvalidCursor,
    InvalidPayload,
    NotFound,
    OverLimit,
    RepoPaused,
    TooManyRequests,
    UnsupportedMediaType,
)
from cotexd.flows.billing import AlreadySubscribed, BillingDisabled
from cotexd.gateways.stripe import BadEvent
from cotexd.live.hub import TooManyConnections
from cotexd.operations.cursors import MAX_NAME
from cotexd.operations.events import Accepted
from cotexd.operations.history import MAX_PAGE, Stored
from cotexd.operations.members import Member
from cotexd.operations.presence import Device
from cotexd.operations.repositories import RepoName, Tracked
from cotexd.web import events, health, identity, me, repos, stream, stripe
from cotexd.web.github import SlowSender
from cotexd.web.openapi import JSON, PUBLIC, UNSCOPED, Answer, Body, Parameter, Route

HTML = "text/html; charset=utf-8"
TEXT = "text/plain"

Id = Annotated[str, Meta(extra_json_schema={"examples": ["2f1c7c9e-6f0e-4c55-9d53-0a3d5c1c1d10"]})]
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1})]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=0)]
DeviceName = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_NAME, "examples": ["laptop"]})]
Moment = Annotated[datetime, Meta(tz=True)]
EventType = Annotated[str, Meta(extra_json_schema={"examples": ["push"]})]
GithubName = Annotated[
    str, Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]{0,63}$", "examples": ["push"]})
]
GithubGuid = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_-]{1,100}$"})]
Document = dict[str, Any]


class Pinged(Struct, frozen=True):
    """The answer to GitHub's `ping`."""

    pinged: bool


THE_REPO = Parameter("id", Id, "The repository.", required=True)
OF_A_REPO = Parameter("repo_id", Id, "Only of this repository.")
CHOICE = (
    Parameter("device", DeviceName, "The name of this client, by which the server keeps its cursor."),
    Parameter("repos", str, "Only of these repositories: names or ids, separated by commas."),
    Parameter("events", str, "Only of these kinds, separated by commas: `push,release`."),
)
DONE = {204: Answer("It is done.")}

# health.py
SERVER = (
    Route("GET", "/health", "health", "Is it there", PUBLIC, {200: Answer("It is.", health.Health)}),
    Route("HEAD", "/health", "health", "Is it there", PUBLIC, {200: Answer("It is.")}),
    Route("GET", "/livez", "livez", "Does the process turn", PUBLIC, {200: Answer("It does.", health.Alive)}),
    Route("HEAD", "/livez", "livez", "Does the process turn", PUBLIC, {200: Answer("It does.")}),
    Route(
        "GET",
        "/readyz",
        "readyz",
        "Does the database answer, and is the server not stopping",
        PUBLIC,
        {200: Answer("It is ready.", health.Ready)},
    ),
    Route("HEAD", "/readyz", "readyz", "Is it ready", PUBLIC, {200: Answer("It is ready.")}),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Figures for Prometheus, for this machine and the networks of metrics_networks",
        PUBLIC,
        {200: Answer("The figures.", str, TEXT)},
        refuses=(NotFound,),
    ),
    Route(
        "GET", "/openapi.json", "openapi", "This document", PUBLIC, {200: Answer("OpenAPI 3.1.", Document)}
    ),
    Route(
        "GET",
        "/asyncapi.json",
        "asyncapi",
        "The messages of /ws and /api/events/stream",
        PUBLIC,
        {200: Answer("AsyncAPI 3.0.", Document)},
    ),
)

# repos.py
REPOSITORIES = (
    Route(
        "GET",
        "/api/repos",
        "repos",
        "What the user tracks or has been shared",
        scope.REPOS_READ,
        {200: Answer("All, by name; or the one that `id` names.", (list[Tracked], Tracked))},
        (Parameter("id", Id, "Only this one."),),
        refuses=(NotFound,),
    ),
    Route(
        "POST",
        "/api/repos",
        "add_repo",
        "Track a repository",
        scope.REPOS_WRITE,
        {201: Answer("The only answer that holds the webhook's secret.", repos.Added)},
        body=Body(repos.NewRepository),
        refuses=(OverLimit, Conflict),
    ),
    Route(
        "PATCH",
        "/api/repos",
        "change_repo",
        "Change a repository, whole or not at all",
        scope.REPOS_WRITE,
        {200: Answer("As it is now; with the new secret, if it was rotated.", Tracked)},
        (THE_REPO,),
        Body(repos.Change),
        (NotFound, OverLimit),
    ),
    Route(
        "DELETE",
        "/api/repos",
        "remove_repo",
        "Remove a repository and its stored events: say `id` or `name`",
        scope.REPOS_WRITE,
        DONE,
        (Parameter("id", Id, "The repository."), Parameter("name", RepoName, "The repository.")),
        refuses=(NotFound,),
    ),
    Route(
        "GET",
        "/api/repos/members",
        "members",
        "Who sees a repository",
        scope.REPOS_READ,
        {200: Answer("The owner first.", list[Member])},
        (THE_REPO,),
        refuses=(NotFound,),
    ),
    Route(
        "POST",
        "/api/repos/members",
        "share",
        "Share a repository with another user",
        scope.REPOS_WRITE,
        {201: Answer("They see its events from now on.", Member)},
        (THE_REPO,),
        Body(repos.NewMember),
        (NotFound, Conflict),
    ),
    Route(
        "DELETE",
        "/api/repos/members",
        "unshare",
        "Take a repository back from a member, who is named in `user` or in the body; or leave it",
        scope.REPOS_WRITE,
        DONE,
        (THE_REPO, Parameter("user", Name, "Their name or id.")),
        Body(repos.NewMember, required=False),
        (NotFound,),
    ),
)

# events.py
HISTORY = (
    Route(
        "GET",
        "/api/github-events",
        "events",
        "The history, newest first, by pages",
        scope.EVENTS_READ,
        {200: Answer("A page; `Link` has the next.", list[Stored], headers=("Link",))},
        (
            Parameter("limit", Count, f"How many: {events.PAGE} unless told, {MAX_PAGE} at most."),
            Parameter("cursor", str, "As `Link` has it."),
            OF_A_REPO,
            Parameter("event_type", EventType, "Only of this kind."),
            Parameter("since", Moment, "Received at this time or later."),
            Parameter("until", Moment, "Received before this time."),
            Parameter("undelivered", bool, "Only what no client of the user has acknowledged."),
        ),
        refuses=(InvalidCursor, NotFound),
    ),
    Route(
        "GET",
        "/api/github-events/recent",
        "recent_events",
        "The newest events",
        scope.EVENTS_READ,
        {200: Answer("Their ids, or they themselves.", (events.RecentIds, events.Recent))},
        (
            Parameter("limit", Count, f"How many: {events.RECENT} unless told, {MAX_PAGE} at most."),
            OF_A_REPO,
            Parameter("include_payload", bool, "The events, not only their ids."),
        ),
        refuses=(NotFound,),
    ),
    Route(
        "GET",
        "/api/github-events/event",
        "event",
        "One event: say `id` or `recent`",
        scope.EVENTS_READ,
        {200: Answer("The event.", Stored)},
        (Parameter("id", Id, "The event."), Parameter("recent", bool, "The newest.")),
        refuses=(NotFound,),
    ),
    Route(
        "GET",
        "/api/github-events/delivery",
        "delivery",
        "A delivery as GitHub made it, to be sent on to somewhere else",
        scope.EVENTS_READ,
        {
            200: Answer(
                "GitHub's own JSON.",
                Document,
                headers=("X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256", "X-Hub-Signature"),
            )
        },
        (Parameter("id", Id, "The event.", required=True),),
        refuses=(NotFound,),
    ),
    Route(
        "POST",
        "/api/github-events/ack",
        "ack",
        "Everything up to a cursor counts as delivered",
        scope.EVENTS_READ,
        {200: Answer("The cursor.", events.Acknowledged)},
        body=Body(events.Acknowledgement),
        refuses=(InvalidCursor, Conflict),
    ),
)

# socket.py, stream.py
PUSHED = (
    Route(
        "GET",
        "/ws",
        "ws",
        "A WebSocket; /asyncapi.json has its messages",
        scope.EVENTS_READ,
        {101: Answer("The WebSocket is open.")},
        (
            Parameter("v", Literal["1", "2"], "The protocol's version; 1, unless told."),
            Parameter("cursor", CursorText, "Where to go on."),
            *CHOICE,
        ),
        refuses=(InvalidCursor, Conflict, TooManyConnections),
    ),
    Route(
        "GET",
        "/api/events/stream",
        "stream",
        "The same messages as server-sent events; /asyncapi.json has them",
        scope.EVENTS_READ,
        {200: Answer("Events, without an end.", str, "text/event-stream; charset=utf-8")},
        (
            Parameter("cursor", CursorText, "Where to go on."),
            *CHOICE,
            Parameter("Last-Event-ID", CursorText, "Where to go on, as a browser says it.", "header"),
        ),
        refuses=(InvalidCursor, Conflict, TooManyConnections),
    ),
    Route(
        "GET",
        "/api/events",
        "poll",
        "Wait for the next events",
        scope.EVENTS_READ,
        {200: Answer("What came after `after`, perhaps nothing.", stream.Polled)},
        (
            Parameter("after", CursorText, "Left out: answers at once with the cursor of now."),
            Parameter(
                "wait", Seconds, f"Seconds to wait for something: 0 unless told, {stream.MAX_WAIT} at most."
            ),
            *CHOICE,
        ),
        refuses=(InvalidCursor, Conflict, TooManyConnections),
    ),
)

# me.py
USER = (
    Route(
        "GET",
        "/api/me",
        "me",
        "The user who asks",
        scope.ACCOUNT_READ,
        {200: Answer("With limits, and use of them.", me.Me)},
    ),
    Route(
        "GET",
        "/api/me/devices",
        "devices",
        "The user's clients, and how far each has come",
        scope.ACCOUNT_READ,
        {200: Answer("The connected ones first.", list[Device])},
    ),
    Route(
        "DELETE",
        "/api/me/devices",
        "forget_device",
        "Forget how far a client has come",
        scope.EVENTS_READ,
        DONE,
        (Parameter("device", Name, "Its name.", required=True),),
        refuses=(NotFound,),
    ),
)

# stripe.py
BILLING = (
    Route(
        "POST",
        "/api/checkout",
        "checkout",
        "Begin a subscription",
        scope.BILLING_WRITE,
        {200: Answer("The address of Stripe's Checkout.", stripe.Address)},
        body=Body(stripe.Wanted, required=False),
        refuses=(NotFound, Conflict, AlreadySubscribed, BillingDisabled, Failed),
    ),
    Route(
        "POST",
        "/api/billing/portal",
        "portal",
        "Change or cancel a subscription",
        scope.BILLING_WRITE,
        {200: Answer("The address of the page.", stripe.Address)},
        refuses=(NotFound, BillingDisabled, Failed),
    ),
    *(
        Route(
            "GET",
            f"/billing/{name}",
            f"billing_{name}",
            f"The page to which Stripe leads back {when}",
            PUBLIC,
            {200: Answer("A page for people.", str, HTML)},
            (Parameter("who", str, "The user, as only the server can read it."),),
            refuses=(TooManyRequests,),
        )
        for name, when in (("done", "after a checkout"), ("cancelled", "when nothing was bought"))
    ),
)

# github.py, stripe.py
WEBHOOKS = (
    Route(
        "POST",
        "/api/webhooks/github/<repo_id:str>",
        "github",
        "GitHub's deliveries, which are signed",
        PUBLIC,
        {200: Answer("It is on the disk; or it was a `ping`.", (Accepted, Pinged))},
        (
            Parameter("repo_id", Id, "The repository.", "path", required=True),
            Parameter("X-GitHub-Event", GithubName, "The kind of event.", "header", required=True),
            Parameter("X-GitHub-Delivery", GithubGuid, "GitHub's GUID.", "header", required=True),
            Parameter("X-Hub-Signature-256", str, "`sha256=` and the HMAC of the body.", "header"),
            Parameter("X-Hub-Signature", str, "The same with SHA-1, where that is accepted.", "header"),
        ),
        Body(Document, (JSON, "application/x-www-form-urlencoded")),
        (InvalidPayload, SlowSender, BadSignature, RepoPaused, UnsupportedMediaType, TooManyRequests),
    ),
    Route(
        "POST",
        "/webhooks/stripe",
        "stripe",
        "Stripe's events, which are signed",
        PUBLIC,
        {200: Answer("It is done.", stripe.Received)},
        (Parameter("Stripe-Signature", str, "Over the time and the body.", "header"),),
        Body(Document),
        (BadEvent, BillingDisabled, Failed),
    ),
)

# identity.py
BANNED, THROTTLED, AWAY = "user_banned", "over_request_rate_limit", "unavailable"
WITH_TOKEN = {401: ("bad_jwt",), 403: (BANNED, "insufficient_scope"), 429: (THROTTLED,), 503: (AWAY,)}
SIGNING_IN = (
    Route(
        "POST",
        "/auth/v1/token",
        "auth_token",
        "Sign in, or refresh a session",
        PUBLIC,
        {200: Answer("Signed in.", identity.TokenPair, headers=("RateLimit", "RateLimit-Policy"))},
        (Parameter("grant_type", Literal["password", "refresh_token"], "Which it is.", required=True),),
        Body((identity.PasswordGrant, identity.RefreshGrant)),
        in_its_words={
            400: (
                "validation_failed",
                "unsupported_grant_type",
                "invalid_credentials",
                "refresh_token_not_found",
                "refresh_token_already_used",
                "session_not_found",
                BANNED,
            ),
            403: (BANNED,),
            429: (THROTTLED,),
            503: (AWAY, THROTTLED, "overloaded"),
        },
    ),
    Route(
        "GET",
        "/auth/v1/user",
        "auth_user",
        "Who is signed in",
        scope.ACCOUNT_READ,
        {200: Answer("The user.", identity.User)},
        in_its_words=WITH_TOKEN,
    ),
    Route(
        "POST",
        "/auth/v1/logout",
        "auth_logout",
        "End sessions of the user",
        UNSCOPED,
        DONE,
        (Parameter("scope", Literal["global", "local", "others"], "Which: all of them, unless told."),),
        in_its_words={400: ("validation_failed",), **WITH_TOKEN},
    ),
    Route(
        "GET",
        "/auth/v1/.well-known/jwks.json",
        "auth_jwks",
        "The public keys that verify access tokens",
        PUBLIC,
        {200: Answer("The keys.", identity.Jwks)},
        in_its_words={503: (AWAY,)},
    ),
    Route(
        "GET",
        "/auth/v1/settings",
        "auth_settings",
        "Which ways to sign in there are",
        PUBLIC,
        {200: Answer("The ways.", identity.Settings)},
    ),
    Route(
        "GET",
        "/auth/v1/health",
        "auth_health",
        "Is it there",
        PUBLIC,
        {200: Answer("It is.", identity.Described)},
    ),
)

ROUTES = (
    *REPOSITORIES,
    *HISTORY,
    *PUSHED,
    *USER,
    *BILLING,
    *SIGNING_IN,
    *WEBHOOKS,
    *SERVER,
)
