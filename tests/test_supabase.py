"""The real clients, auth-js and supabase-js on Node, against a running server: they only know its address."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from actors import WAIT
from conftest import INSTALLING, PASSWORD, Server, with_password


@pytest.fixture
def database() -> str:
    """SQLite: the clients don't know which one it is."""
    return ""


@pytest.mark.timeout(INSTALLING + 120)
async def test_supabase_js_signs_in_refreshes_reads_the_user_and_signs_out(server: Server, clients: Path):
    ada = with_password(server)
    running = await asyncio.create_subprocess_exec(
        "node",
        clients / "supabase.mjs",
        env={
            "PATH": os.environ["PATH"],
            "COTEX_URL": server.url,
            "COTEX_EMAIL": "ada@example.com",
            "COTEX_PASSWORD": PASSWORD,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(running.communicate(), 3 * WAIT)
    assert running.returncode == 0, errors.decode()
    assert json.loads(out) == {
        "wrong": {"name": "AuthApiError", "status": 400, "code": "invalid_credentials"},
        "signIn": None,
        "session": {"type": "bearer", "in": 3600, "email": "ada@example.com"},
        "user": {"error": None, "id": ada.id},
        "claims": {"error": None, "sub": ada.id, "alg": "ES256"},
        "refreshed": {"error": None, "rotated": True},
        # A client whose answer was lost asks again, and goes on with the same successor.
        "again": {"error": None, "same": True},
        "repos": 200,
        "hello": {"event": "hello", "protocol": "cotex.v2"},
        "second": None,
        "signOutOthers": None,
        # What auth-js makes of session_not_found: it knows that it has to sign in again.
        "afterSignOut": {"name": "AuthSessionMissingError", "status": 400},
        "stillIn": None,
        "signOut": None,
        "revoked": 401,
    }
