"""What the command's own tests don't reach: checks whose time, or space, is up."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from cotexd.flows import doctor
from cotexd.flows.access import Access
from cotexd.flows.billing import Account
from cotexd.flows.doctor import Patient
from cotexd.gateways import probe
from cotexd.gateways.probe import Seen
from cotexd.operations import backups
from cotexd.store import Store

PUBLIC = "https://cotex.example.com"


@pytest.fixture
async def patient(store: Store) -> AsyncIterator[Patient]:
    store.start(lambda _: None, lambda: None)
    access = Access(store, "")
    yield Patient(store, PUBLIC, access, Account(store, "", "", ()))
    await access.close()
    await store.stop()


def seen(monkeypatch: pytest.MonkeyPatch, answer: Seen) -> None:
    """What stands at the public address."""

    async def health(_: str) -> Seen:
        return answer

    monkeypatch.setattr(probe, "health", health)


@pytest.mark.parametrize(("free", "status"), [(50 * 2**20, "fail"), (500 * 2**20, "warn"), (5 * 2**30, "ok")])
def test_little_space_is_warned_of_and_none_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
):
    usage = SimpleNamespace(free=free, total=10 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert doctor.space(tmp_path).status == status


@pytest.mark.parametrize(("days", "status"), [(3, "warn"), (60, "ok")])
async def test_a_certificate_that_ends_soon_is_warned_of(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, days: int, status: str
):
    now = datetime.now(UTC)
    seen(monkeypatch, Seen(200, "1.0", False, now + timedelta(days=days)))
    found = {each.check: each for each in await doctor.examine(patient)}
    assert found["tls"].status == status


@pytest.mark.parametrize(("off", "status"), [(0, "ok"), (20, "warn"), (600, "fail")])
async def test_how_far_the_clock_is_off_that_of_github_counts(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, off: int, status: str
):
    async def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=off)

    monkeypatch.setattr(patient.access, "clock", clock)
    found = {each.check: each for each in await doctor.examine(patient)}
    assert found["clock"].status == status


async def test_a_check_that_does_not_end_is_cut_and_the_others_go_on(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
):
    async def health(_: str) -> Seen:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(probe, "health", health)
    monkeypatch.setattr(doctor, "WITHIN", 0.05)
    found = {each.check: each for each in await doctor.examine(patient)}
    assert found["public_url"].detail == "no answer within 0 s"
    assert found["stripe"].status == "ok"


async def test_an_old_backup_is_warned_of(patient: Patient, clock):
    clock.now = datetime.now(UTC) - timedelta(days=30)
    await patient.store.write(backups.note)
    found = {each.check: each for each in await doctor.examine(patient)}
    assert (found["backup"].status, found["backup"].detail) == ("warn", "the last is 30d old")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_this_account_cannot_write_is_named_and_mended():
    """A database's companion, made by who could only read it, say."""
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "cotexd.db-shm"
        file.touch(mode=0o400)
        for each in (folder, file):
            os.chown(each, 65534, 65534)
        os.seteuid(65534)
        try:
            found = doctor.files(folder, [file], fix=False)
            assert (found.status, found.detail) == ("fail", "cannot be written: cotexd.db-shm")
            assert found.fix == f"chmod 600 {file}"
            assert doctor.files(folder, [file], fix=True).status == "ok"
            assert doctor.files(folder, [file], fix=False).detail == f"{folder} is closed to others"
        finally:
            os.seteuid(0)
